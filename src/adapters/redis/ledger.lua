-- The rules of stagecast/domain/ledger.py, atomically, next to the data. Keep the two in step; a model test compares them.
-- It knows no event types: each event comes with its effect.
--
-- KEYS  log (stream: s = stage, e = encoded event), meta (hash), leases (hash), producers (hash), text of the stage
-- ARGV  1 command, 2 stage, 3 feed channel, 4 seed channel or '', 5 '1' = tokens on the seed channel with full_text,
--       6 log length, 7 time to live in ms, 8 queue deadline in us, 9 prefix of text keys, 10 message of run_opened,
--       11 line of the error of a cancelled run, then what the command takes.
-- Meta fields of a stage begin with '<stage>:'; 's:<slot>' holds encoded events, 't:<task>' 'attempt nonce'.
--
-- Most batches are tokens of a run in progress, and this is what they cost. They come without 10 and 11 (''), which only
-- a batch needs that may open or end a run by its events, or releases. Without these it is 'brief': the fields and
-- functions of openings and ends are left out, and what needs them after all (a loss) answers {'lines'} before it has
-- written anything. A key's time to live is set when it is new, and for all when it is due.

local call = redis.call
local log, meta, leases, producers, text = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local command, stage, feed, seed, with_text = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local log_length, ttl, queue_deadline = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local text_prefix, opened_message, brief = ARGV[9], ARGV[10], ARGV[10] == ''
local FIELDS = {'run', 'ended', 'length', 'writer', 'queued', 'cancelled', 'dead'}
local own = stage .. ':'

local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function whole(number) return string.format('%.0f', number) end -- below 10^14 '..' does the same, and sooner
local now_text = whole(now)
local function split(position) -- epoch, n of '<epoch>-<n>'
  if not position or position == '' then return nil, nil end
  local epoch, n = string.match(position, '^(%d+)%-(%d+)$')
  return tonumber(epoch), tonumber(n)
end
local function begins_with(value, start) return string.sub(value, 1, #start) == start end

local last = call('XREVRANGE', log, '+', '-', 'COUNT', '1')[1]
local last_id = last and last[1] or ''
local epoch, n = split(last_id)
local named, named_epoch = epoch and string.match(last_id, '^%d+') or '', epoch -- the epoch as text, and of which one
local wanted = {'epoch', 'stages', 'deadline'}
if not brief then
  for _, field in ipairs({'attempt', 'began', 'opened', 'text_began', 'ended_at', 'pipeline_ended', 'ender', 'restored',
    'writer_task', 'past'}) do FIELDS[#FIELDS + 1] = field end
end
for i = 1, #FIELDS do wanted[i + 3] = own .. FIELDS[i] end
local found = call('HMGET', meta, unpack(wanted))
local meta_epoch, stages, deadline = found[1] or '', found[2] or '', tonumber(found[3] or '0')
local s = {}
for i = 1, #FIELDS do s[FIELDS[i]] = found[i + 3] or nil end

-- Keys live and die together. Where one is gone (evicted), all is: another life begins.
local broken = meta_epoch ~= named
if not broken and s.length and s.length ~= '0' and call('EXISTS', text) == 0 then broken = true end
if brief and (broken or not s.run or s.dead or s.queued) then return {'lines'} end
if broken then
  call('DEL', meta, leases, producers)
  for name in string.gmatch(stages, '%S+') do call('DEL', text_prefix .. name) end
  call('DEL', text)
  if epoch then epoch, n = math.max(now, epoch + 1), -1 end
  stages, deadline, s = '', 0, {}
end

local length = tonumber(s.length or '0')
local changed, fields = {}, {} -- set of stage fields; full field -> value
local lines, added, first_line = {}, 0, nil
local made = {} -- keys that have no time to live yet
local pieces, piece_count, text_is_new = {}, 0, false

local function put(field, value) s[field] = value; changed[field] = true end
local function in_progress() return s.run ~= nil and s.ended == nil end
local function position()
  if not epoch or n < 0 then return last_id end
  if epoch ~= named_epoch then named, named_epoch = whole(epoch), epoch end
  return named .. '-' .. n
end
local function next_position()
  if not epoch then return now_text .. '-0' end
  return whole(epoch) .. '-' .. whole(n + 1)
end

local function flush_text()
  local content = table.concat(pieces)
  pieces, piece_count = {}, 0
  if text_is_new then
    call('DEL', text)
    text_is_new = false
  end
  if content ~= '' and call('APPEND', text, content) == #content then made[#made + 1] = text end
end

local function add(line, takes_text, is_ours)
  if not epoch then epoch, n = now, -1 end
  if not last and not first_line then made[#made + 1] = log end
  n = n + 1
  local id = position()
  if added % 64 == 0 then
    call('XADD', log, 'MAXLEN', '~', log_length, id, 's', stage, 'e', line)
  else -- trimmed soon enough
    call('XADD', log, id, 's', stage, 'e', line)
  end
  first_line = first_line or id
  added = added + 1
  lines[added] = line
  if seed ~= '' and not is_ours then
    local message = string.match(line, '\t(.*)}$')
    if takes_text then
      flush_text()
      message = message .. ',"full_text":' .. cjson.encode(call('GET', text) or '')
    end
    call('PUBLISH', seed, message .. ',"id":"' .. id .. '"}')
  end
  return id
end

local function clear_text(at)
  pieces, piece_count, text_is_new, length = {}, 0, true, 0
  put('writer', nil)
  put('writer_task', nil)
  put('text_began', at)
end

local function drop_fields(key, start) -- every field of a hash that begins with `start`
  local names = {}
  for _, field in ipairs(call('HKEYS', key)) do
    if begins_with(field, start) then names[#names + 1] = field end
  end
  for i = 1, #names, 1000 do call('HDEL', key, unpack(names, i, math.min(i + 999, #names))) end
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
    drop_fields(meta, own .. 's:')
    drop_fields(meta, own .. 't:')
    drop_fields(leases, own)
    fields = {}
    put('began', at)
    put('cancelled', nil)
    put('queued', nil)
    put('pipeline_ended', nil)
    fresh = true
  end
  if fresh then clear_text(at) end
  fields[own .. 's:outcome'] = nil
  call('HDEL', meta, own .. 's:outcome')
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
  local all = call('HGETALL', leases)
  for i = 1, #all, 2 do
    if begins_with(all[i], own) then
      local run, beat = string.match(all[i + 1], '^(%S+) (%d+)$')
      if run == s.run and #all[i] > #own then
        held[string.sub(all[i], #own + 1)] = beat
        count = count + 1
      end
    end
  end
  return held, count
end

local function lease(producer, at)
  local is_new = call('HSET', leases, own .. producer, s.run .. ' ' .. at) == 1
  if is_new then made[#made + 1] = leases end
end

local function wait_until(at) -- the run waits for its start, until `at`; watchers see it as the lease of nobody
  put('queued', at and whole(at) or nil)
  if at then
    lease('', whole(at))
  else
    call('HDEL', leases, own)
  end
end

local function finish(at)
  put('ended', at)
  put('ended_at', now_text)
  put('queued', nil)
  drop_fields(leases, own) -- also those of the dead, whose run somebody else has ended
end

local function fail(line)
  fields[own .. 's:outcome'] = line
  finish(add(line, false, false))
end

local function save()
  flush_text()
  local set, drop = {}, {}
  if lines[1] then
    set[1], set[2] = own .. 'length', length
    if named ~= meta_epoch then set[#set + 1] = 'epoch'; set[#set + 1] = named end
    if stages ~= stage and not string.find(' ' .. stages .. ' ', ' ' .. stage .. ' ', 1, true) then
      stages = stages == '' and stage or (stages .. ' ' .. stage)
      set[#set + 1] = 'stages'
      set[#set + 1] = stages
    end
  end
  for field in pairs(changed) do
    local value = s[field]
    if value == nil then
      drop[#drop + 1] = own .. field
    else
      set[#set + 1] = own .. field
      set[#set + 1] = value
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
  if drop[1] then call('HDEL', meta, unpack(drop)) end
  for i = 1, #set, 1000 do call('HSET', meta, unpack(set, i, math.min(i + 999, #set))) end
  if refresh then
    made = {log, meta, leases, producers, text}
    for name in string.gmatch(stages, '%S+') do made[#made + 1] = text_prefix .. name end
  end
  for _, key in ipairs(made) do call('PEXPIREAT', key, whole(deadline)) end
  if lines[1] then
    call('PUBLISH', feed, first_line .. ' ' .. stage .. '\n' .. table.concat(lines, '\n'))
  end
end

if command == 'publish' then
  -- 12 producer, 13 first, 14 run, 15 task, 16 attempt, 17 new run, 18 acknowledged, 19 '1' = release, 20 number of
  -- events, then for each: kind, offset or slot, units, text, line. Kinds: t = append text at an offset, o = opens a
  -- run, e = ends it, d = ends it with the stage's text, f = is final outside a run, p = ends the pipeline, x = other.
  local producer, first, run, task = ARGV[12], tonumber(ARGV[13]), ARGV[14], ARGV[15]
  local attempt, new_run, release, count = tonumber(ARGV[16]), ARGV[17], ARGV[19] == '1', tonumber(ARGV[20])
  local ack_epoch, ack_n = split(ARGV[18])
  local known = call('HGET', producers, producer)
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
    local given = ARGV
    if not run and in_progress() then run = s.run end
    for i = skip, count - 1 do
      local at = 21 + i * 5
      local kind, argument, units, content, line = given[at], given[at + 1], given[at + 2], given[at + 3], given[at + 4]
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
          piece_count = piece_count + 1
          pieces[piece_count] = content
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
        fields[own .. 's:' .. argument] = line
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
    if lost and brief then return true end
    if run then
      local stale = not s.run
      if lost and s.run and not string.find(' ' .. (s.past or '') .. ' ', ' ' .. run .. ' ', 1, true) then
        -- Of two runs whose producers both restore, the later one was acknowledged farther in the life that is lost.
        local opened_epoch = split(s.opened)
        local restored_epoch, restored_n = split(s.restored)
        local came_first = s.run ~= run and restored_epoch
          and (restored_epoch < ack_epoch or (restored_epoch == ack_epoch and restored_n < ack_n))
        stale = opened_epoch ~= epoch or came_first
      end
      local given = task ~= '' and not stale and call('HGET', meta, own .. 't:' .. task) or nil
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
          drop_fields(leases, own)
          open(run, math.max(attempt, 1), stale or s.writer_task == task or run == task)
          put('restored', ARGV[18])
        end
        if task ~= '' then fields[own .. 't:' .. task] = whole(attempt) .. ' -' end
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

  if decide() then return {'lines'} end
  local sequence = math.max(first + applied - 1, known_sequence)
  if not known then -- forget some producers that were not heard of for a time to live
    local sample = call('HRANDFIELD', producers, 4, 'WITHVALUES') or {}
    for i = 1, #sample, 2 do
      local seen = tonumber(string.match(sample[i + 1], '(%d+)$'))
      if seen < now - ttl * 1000 then call('HDEL', producers, sample[i]) end
    end
  end
  if call('HSET', producers, producer, sequence .. ' ' .. (run or '') .. ' ' .. now_text) == 1 then
    made[#made + 1] = producers
  end
  if run and run == s.run and not superseded then
    if in_progress() and not release then
      lease(producer, now_text)
      if s.queued then wait_until(nil) end
    else
      call('HDEL', leases, own .. producer)
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
      fields[own .. 's:status'] = queued
      wait_until(now + queue_deadline)
      save()
    end
    return {'opened', tonumber(s.attempt), position(), s.cancelled and 1 or 0}
  end
  if is_known and s.cancelled then return {'opened', tonumber(s.attempt), position(), 1} end
  local given = is_known and call('HGET', meta, own .. 't:' .. task)
  local attempt, given_nonce = 0, nil
  if given then
    local a, b = string.match(given, '^(%d+) (.*)$')
    attempt, given_nonce = tonumber(a), b
  end
  if given_nonce ~= nonce then
    attempt = attempt + 1
    if not is_known or attempt > 1 or s.dead then
      -- The fenced attempt may have died with its lease; who lives renews within a second.
      drop_fields(leases, own)
      open(run, attempt, not is_known or s.writer_task == task or run == task)
    end
    put('attempt', whole(math.max(tonumber(s.attempt), attempt)))
    fields[own .. 't:' .. task] = whole(attempt) .. ' ' .. nonce
  end
  if in_progress() then lease(producer, now_text) end
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
