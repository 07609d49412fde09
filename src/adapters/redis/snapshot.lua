-- The state of a project at one position, read atomically.
--
-- KEYS  log, meta
-- ARGV  1 prefix of text keys, 2 a stage or '' for all, 3 '1' = with the texts
-- Returns the position of the log's end or '', the server's time in us, the meta hash flat, then stage and text in turn.

local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
local meta = redis.call('HGETALL', KEYS[2])
local position, epoch, stages = last and last[1] or '', '', ''
for i = 1, #meta, 2 do
  if meta[i] == 'epoch' then epoch = meta[i + 1] end
  if meta[i] == 'stages' then stages = meta[i + 1] end
end
if epoch ~= (string.match(position, '^(%d+)%-') or '') then return {position, now, {}} end -- state without its log
local answer = {position, now, meta}
if ARGV[3] == '1' then
  for name in string.gmatch(stages, '%S+') do
    if ARGV[2] == '' or ARGV[2] == name then
      answer[#answer + 1] = name
      answer[#answer + 1] = redis.call('GET', ARGV[1] .. name) or ''
    end
  end
end
return answer
