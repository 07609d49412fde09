-- The rules of stagecast/domain/ledger.py, atomically, next to the data. Keep the two in step; a model test compares them.
-- It knows no event types: each event comes with its effect.
--
-- KEYS  log (stream: s = stage, e = encoded event), meta (hash), leases (hash), producers (hash), text of the stage
-- ARGV  1 command, 2 stage, 3 feed channel, 4 seed channel or '', 5 '1' = tokens on the seed channel with full_text,
--       6 log length, 7 time to live in ms, 8 queue deadline in us, 9 prefix of text keys, 10 message of run_opened,
--       11 line of the error of a cancelled run, then what the command takes.
-- Meta fields of a stage begin with '<stage>:'; 's:<slot>' holds encoded events, 't:<task>' 'attempt nonce'.

local log, meta, leases, producers, text = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local command, stage, feed, seed, with_text = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local log_length, ttl, queue_deadline = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local text_prefix, opened_message = ARGV[9], ARGV[10]
local FIELDS = {'run', 'attempt', 'began', 'opened', 'text_began', 'ended', 'ended_at', 'pipeline_ended', 'ender',
  'dead', 'restored', 'cancelled', 'queued', 'writer', 'writer_task', 'length', 'past'}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function whole(number) return string.format('%.0f', number) end
local function split(position) -- epoch, n of '<epoch>-<n>'
  if not position or position == '' then return nil, nil end
  local epoch, n = string.match(position, '^(%d+)%-(%d+)$')
  return tonumber(epoch), tonumber(n)
end
local function begins_with(value, start) return string.sub(value, 1, #start) == start end

local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
local epoch, n = split(last and last[1])
local wanted = {'epoch', 'stages', 'deadline'}
for _, field in ipairs(FIELDS) do wanted[#wanted + 1] = stage .. ':' .. field end
local found = redis.call('HMGET', meta, unpack(wanted))
local meta_epoch, stages, deadline = found[1] or '', found[2] or '', tonumber(found[3] or '0')
local s = {}
for i, field in ipairs(FIELDS) do s[field] = found[i + 3] or nil end

-- Keys live and die together. Where one is gone (evicted), all is: another life begins.
local broken = meta_epoch ~= (epoch and whole(epoch) or '')
if not broken and s.length and s.length ~= '0' and redis.call('EXISTS', text) == 0 then broken = true end
if broken then
  redis.call('DEL', meta, leases, producers)
  for name in string.gmatch(stages, '%S+') do redis.call('DEL', text_prefix .. name) end
  redis.call('DEL', text)
  if epoch then epoch, n = math.max(now, epoch + 1), -1 end
  stages, deadline, s = '', 0, {}
end

local length = tonumber(s.length or '0')
local changed, fields, lines, first_line = {}, {}, {}, nil -- changed: set of stage fields; fields: full field -> value
local piece, text_is_new = {}, false

local function put(field, value) s[field] = value; changed[field] = true end
local function in_progress() return s.run ~= nil and s.ended == nil end
local function position() return epoch and n >= 0 and (whole(epoch) .. '-' .. whole(n)) or (last and last[1]) or '' end
local function next_position()
  if not epoch then return whole(now) .. '-0' end
  return whole(epoch) .. '-' .. whole(n + 1)
end

local function flush_text()
  local content = table.concat(piece)
  piece = {}
  if text_is_new then
    redis.call('DEL', text)
    text_is_new = false
  end
  if content ~= '' then redis.call('APPEND', text, content) end
end

local function add(line, takes_text, is_ours)
  if not epoch then epoch, n = now, -1 end
  n = n + 1
  local id = position()
  redis.call('XADD', log, 'MAXLEN', '~', log_length, id, 's', stage, 'e', line)
  if not first_line then first_line = id end
  lines[#lines + 1] = line
  if seed ~= '' and not is_ours then
    local message = string.sub(line, string.find(line, '\t', 1, true) + 1, -2)
    if takes_text then
      flush_text()
      message = message .. ',"full_text":' .. cjson.encode(redis.call('GET', text) or '')
    end
    redis.call('PUBLISH', seed, message .. ',"id":"' .. id .. '"}')
  end
  return id
end

local function clear_text(at)
  piece, text_is_new, length = {}, true, 0
  put('writer', nil)
  put('writer_task', nil)
  put('text_began', at)
end

local function drop_fields(key, start) -- every field of a hash that begins with `start`
  local names = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if begins_with(field, start) then names[#names + 1] = field end
  end
  for i = 1, #names, 1000 do redis.call('HDEL', key, unpack(names, i, math.min(i + 999, #names))) end
end

local function open(run, attempt, fresh)
  local at = next_position()
  local began_epoch = split(s.began)
  if run ~= s.run or began_epoch ~= (epoch or now) then
    if s.run and s.run ~= run then
      local past = {}
      for one in string.gmatch(s.past or '', '%S+') do past[#past + 1] = one end
      past[#past + 1] = s.run
      put('past', table.concat(past, ' ', math.max(1, #past - 15)))
    end
    drop_fields(meta, stage .. ':s:')
    drop_fields(meta, stage .. ':t:')
    drop_fields(leases, stage .. ':')
    fields = {}
    put('began', at)
    put('cancelled', nil)
    put('queued', nil)
    put('pipeline_ended', nil)
    fresh = true
  end
  if fresh then clear_text(at) end
  fields[stage .. ':s:outcome'] = nil
  redis.call('HDEL', meta, stage .. ':s:outcome')
  put('run', run)
  put('attempt', whole(attempt))
  put('opened', at)
  put('ended', nil)
  put('ended_at', nil)
  put('ender', nil)
  put('dead', nil)
  put('restored', nil)
  local header = '{"v":1,"run":' .. cjson.encode(run) .. ',"attempt":' .. whole(attempt) ..
    ',"fresh":' .. tostring(fresh) .. '}'
  add(header .. '\t' .. opened_message, false, true)
end

local function stage_leases() -- producer -> beat, count
  local held, count = {}, 0
  local all = redis.call('HGETALL', leases)
  for i = 1, #all, 2 do
    if begins_with(all[i], stage .. ':') then
      local run, beat = string.match(all[i + 1], '^(%S+) (%d+)$')
      if run == s.run and #all[i] > #stage + 1 then
        held[string.sub(all[i], #stage + 2)] = beat
        count = count + 1
      end
    end
  end
  return held, count
end

local function set_lease(producer) redis.call('HSET', leases, stage .. ':' .. producer, s.run .. ' ' .. whole(now)) end

local function wait_until(at) -- the run waits for its start, until `at`; watchers see it as the lease of nobody
  put('queued', at and whole(at) or nil)
  if at then
    redis.call('HSET', leases, stage .. ':', s.run .. ' ' .. whole(at))
  else
    redis.call('HDEL', leases, stage .. ':')
  end
end

local function finish(at)
  put('ended', at)
  put('ended_at', whole(now))
  put('queued', nil)
  drop_fields(leases, stage .. ':') -- also those of the dead, whose run somebody else has ended
end

local function fail(line)
  fields[stage .. ':s:outcome'] = line
  finish(add(line, false, false))
end

local function save()
  flush_text()
  local set, drop = {}, {}
  if lines[1] then
    put('length', whole(length))
    if epoch and whole(epoch) ~= meta_epoch then set[#set + 1] = 'epoch'; set[#set + 1] = whole(epoch) end
    if not string.find(' ' .. stages .. ' ', ' ' .. stage .. ' ', 1, true) then
      stages = stages == '' and stage or (stages .. ' ' .. stage)
      set[#set + 1] = 'stages'
      set[#set + 1] = stages
    end
  end
  for field in pairs(changed) do
    if s[field] == nil then
      drop[#drop + 1] = stage .. ':' .. field
    else
      set[#set + 1] = stage .. ':' .. field
      set[#set + 1] = s[field]
    end
  end
  for field, value in pairs(fields) do set[#set + 1] = field; set[#set + 1] = value end
  local now_ms = math.floor(now / 1000)
  local refresh = deadline - now_ms < ttl * 0.99
  if refresh then
    deadline = now_ms + ttl
    set[#set + 1] = 'deadline'
    set[#set + 1] = whole(deadline)
  end
  if drop[1] then redis.call('HDEL', meta, unpack(drop)) end
  for i = 1, #set, 1000 do redis.call('HSET', meta, unpack(set, i, math.min(i + 999, #set))) end
  local keys = {log, meta, leases, producers, text}
  if refresh then
    for name in string.gmatch(stages, '%S+') do keys[#keys + 1] = text_prefix .. name end
  end
  for _, key in ipairs(keys) do redis.call('PEXPIREAT', key, whole(deadline)) end
  if lines[1] then
    redis.call('PUBLISH', feed, first_line .. ' ' .. stage .. '\n' .. table.concat(lines, '\n'))
  end
end

if command == 'publish' then
  -- 12 producer, 13 first, 14 run, 15 task, 16 attempt, 17 new run, 18 acknowledged, 19 '1' = release, 20 number of
  -- events, then for each: kind, offset or slot, units, text, line. Kinds: t = append text at an offset, o = opens a
  -- run, e = ends it, d = ends it with the stage's text, f = is final outside a run, p = ends the pipeline, x = other.
  local producer, first, run, task = ARGV[12], tonumber(ARGV[13]), ARGV[14], ARGV[15]
  local attempt, new_run, release, count = tonumber(ARGV[16]), ARGV[17], ARGV[19] == '1', tonumber(ARGV[20])
  local ack_epoch, ack_n = split(ARGV[18])
  local known = redis.call('HGET', producers, producer)
  local known_sequence, known_run = 0, ''
  if known then
    local a, b = string.match(known, '^(%d+) (%S*) %d+$')
    known_sequence, known_run = tonumber(a), b
  end
  local skip = math.min(math.max(known_sequence - first + 1, 0), count)
  if run == '' then run = known_run end
  if run == '' then run = nil end
  local applied, refused, foreign, superseded, need = skip, 0, false, false, ''

  local function apply()
    if not run and in_progress() then run = s.run end
    for i = skip, count - 1 do
      local at = 21 + i * 5
      local kind, argument, units, content, line = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
      local is_end = kind == 'e' or kind == 'd'
      local opens = kind == 'o' or (kind == 't' and argument == '0')
      if not in_progress() and ((opens and (not run or s.ender == producer)) or (is_end and not run)) then
        if s.run == new_run then return end
        run = new_run
        open(run, 1, true)
      end
      local accepted = true
      if kind == 't' then
        if not in_progress() then
          accepted = false
        elseif argument == '0' then
          clear_text(next_position())
          put('writer', producer)
          put('writer_task', task ~= '' and task or nil)
        elseif s.writer and s.writer ~= producer then
          accepted, foreign = false, true
        elseif not s.writer or tonumber(argument) ~= length then
          need = 'text'
          return
        end
        if accepted then
          piece[#piece + 1] = content
          length = length + tonumber(units)
          add(line, with_text, false)
        end
      elseif is_end then
        accepted = in_progress()
        if accepted then
          put('ender', producer)
          finish(add(line, kind == 'd', false))
        end
      else
        local id = add(line, false, false)
        if kind == 'f' and not in_progress() then finish(id) end
        if kind == 'p' then put('pipeline_ended', id) end
      end
      if not accepted then
        refused = refused + 1
      elseif kind ~= 't' and argument ~= '' then
        fields[stage .. ':s:' .. argument] = line
      end
      applied = applied + 1
    end
  end

  local function decide()
    if count > 0 and skip == count then return end
    local missing = first - 1 > known_sequence -- events of its own that the log has lost, however far it has grown since
    local ahead = ack_epoch ~= nil
      and (not epoch or ack_epoch > epoch or (ack_epoch == epoch and (ack_n > n or missing)))
    if ahead then epoch, n = math.max(now, (epoch or 0) + 1, ack_epoch + 1), -1 end
    local lost = ack_epoch ~= nil and (ahead or ack_epoch ~= epoch)
    if run then
      local opened_epoch = split(s.opened)
      local is_past = string.find(' ' .. (s.past or '') .. ' ', ' ' .. run .. ' ', 1, true)
      -- Of two runs whose producers both restore, the later one was acknowledged farther in the life that is lost.
      local restored_epoch, restored_n = split(s.restored)
      local came_first = s.run ~= run and restored_epoch and ack_epoch
        and (restored_epoch < ack_epoch or (restored_epoch == ack_epoch and restored_n < ack_n))
      local stale = s.run == nil or (lost and not is_past and (opened_epoch ~= epoch or came_first))
      local given = task ~= '' and not stale and redis.call('HGET', meta, stage .. ':t:' .. task) or nil
      local number, nonce
      if given then number, nonce = string.match(given, '^(%d+) (.*)$') end
      number = tonumber(number)
      -- A newer attempt fences; after a loss, which numbers anew, any that has begun since ('-' marks a restored one).
      if not stale and (s.run ~= run or (number and (number > attempt or (lost and nonce ~= '-')))) then
        superseded, refused, applied = true, count - skip, count
        return
      end
      local overtakes = lost and number and number < attempt -- an older attempt came back first
      if stale or overtakes or (lost and task ~= '' and not number) then
        if stale or overtakes then
          drop_fields(leases, stage .. ':')
          open(run, math.max(attempt, 1), stale or s.writer_task == task or run == task)
          put('restored', ARGV[18])
        end
        if task ~= '' then fields[stage .. ':t:' .. task] = whole(attempt) .. ' -' end
        lost = true
      end
      if lost then
        need = 'state'
        return
      end
      if s.dead and s.ended and (count > 0 or not release) then open(run, tonumber(s.attempt), false) end
    end
    apply()
  end

  decide()
  local sequence = math.max(first + applied - 1, known_sequence)
  if not known then -- forget some producers that were not heard of for a time to live
    local sample = redis.call('HRANDFIELD', producers, 4, 'WITHVALUES') or {}
    for i = 1, #sample, 2 do
      local seen = tonumber(string.match(sample[i + 1], '(%d+)$'))
      if seen < now - ttl * 1000 then redis.call('HDEL', producers, sample[i]) end
    end
  end
  redis.call('HSET', producers, producer, whole(sequence) .. ' ' .. (run or '') .. ' ' .. whole(now))
  if run and run == s.run and not superseded then
    if in_progress() and not release then
      set_lease(producer)
      if s.queued then wait_until(nil) end
    else
      redis.call('HDEL', leases, stage .. ':' .. producer)
      local _, left = stage_leases()
      if left == 0 and in_progress() then
        if s.cancelled then
          fail(ARGV[11])
        elseif not s.queued then
          wait_until(now + queue_deadline)
        end
      end
    end
  end
  save()
  return {applied, position(), run or '', refused, foreign and 1 or 0, superseded and 1 or 0,
    (s.cancelled and run == s.run) and 1 or 0, need}
end

if command == 'open' then
  -- 12 run, 13 task, 14 nonce, 15 producer, 16 line of the queued event or ''
  local run, task, nonce, producer, queued = ARGV[12], ARGV[13], ARGV[14], ARGV[15], ARGV[16]
  if string.find(' ' .. (s.past or '') .. ' ', ' ' .. run .. ' ', 1, true) then
    return {'superseded', s.run or ''}
  end
  local is_known = s.run == run
  if queued ~= '' then
    if not is_known then
      open(run, 0, true)
      add(queued, false, false)
      fields[stage .. ':s:status'] = queued
      wait_until(now + queue_deadline)
      save()
    end
    return {'opened', tonumber(s.attempt), position(), s.cancelled and 1 or 0}
  end
  if is_known and s.cancelled then return {'opened', tonumber(s.attempt), position(), 1} end
  local given = is_known and redis.call('HGET', meta, stage .. ':t:' .. task)
  local attempt, given_nonce = 0, nil
  if given then
    local a, b = string.match(given, '^(%d+) (.*)$')
    attempt, given_nonce = tonumber(a), b
  end
  if given_nonce ~= nonce then
    attempt = attempt + 1
    if not is_known or attempt > 1 or s.dead then
      -- The fenced attempt may have died with its lease; who lives renews within a second.
      drop_fields(leases, stage .. ':')
      open(run, attempt, not is_known or s.writer_task == task or run == task)
    end
    put('attempt', whole(math.max(tonumber(s.attempt), attempt)))
    fields[stage .. ':t:' .. task] = whole(attempt) .. ' ' .. nonce
  end
  if in_progress() then set_lease(producer) end
  if s.queued then wait_until(nil) end
  save()
  return {'opened', attempt, position(), 0}
end

if command == 'cancel' then
  -- 12 run
  if s.run ~= ARGV[12] or not in_progress() then return 0 end
  put('cancelled', '1')
  local _, held = stage_leases()
  if held == 0 then fail(ARGV[11]) end
  save()
  return 1
end

if command == 'lapse' then
  -- 12 run, 13 line for a dead worker, 14 for a run that did not start, then pairs of producer
  -- and beat: all leases as the caller has watched them for a lease time.
  if s.run ~= ARGV[12] or not in_progress() then return 0 end
  local held, count = stage_leases()
  if count ~= (#ARGV - 14) / 2 then return 0 end
  for i = 15, #ARGV, 2 do
    if held[ARGV[i]] ~= ARGV[i + 1] then return 0 end
  end
  if count == 0 and not (s.queued and now >= tonumber(s.queued)) then return 0 end
  local was_cancelled = s.cancelled
  fail(was_cancelled and ARGV[11] or (count > 0 and ARGV[13] or ARGV[14]))
  if not was_cancelled then put('dead', '1') end
  save()
  return 1
end

return redis.error_reply('STAGECAST unknown command ' .. command)
