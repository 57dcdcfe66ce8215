-- claims: rules of uniqueness: who took a value, and until when.
--
-- Stands after `gates` before scripts that admit jobs or let them go.
--
-- Returns nothing by itself.
local UNIQUE_MS_MAX = 7 * 86400000 -- while its job lives, a value is taken, yet not for ever

-- What a script changed, so that it can be taken back.
local changes = {}

function gates.note_change(field)
  changes[#changes + 1] = { field, redis.call('HGET', unique_key, field),
    redis.call('ZSCORE', ends_key, field) }
end

function gates.take_back_claims()
  for i = #changes, 1, -1 do
    local field, text, till = changes[i][1], changes[i][2], changes[i][3]
    if text then
      redis.call('HSET', unique_key, field, text)
    else
      redis.call('HDEL', unique_key, field)
    end
    if till then
      redis.call('ZADD', ends_key, till, field)
    else
      redis.call('ZREM', ends_key, field)
    end
  end
end

local function taken(field)
  local text = redis.call('HGET', unique_key, field)
  local by, till, since, more = string.match(text or '', '^(%S+) (%d+) (%d+) ?(.*)$')
  if by and tonumber(till) > gates.now then
    return { by = by, till = tonumber(till), since = tonumber(since), more = more }
  end
end

local function set_taken(field, by, till, since, more)
  gates.note_change(field)
  redis.call('HSET', unique_key, field, by .. ' ' .. till .. ' ' .. since .. (more and ' ' .. more or ''))
  redis.call('ZADD', ends_key, till, field)
end

-- The id of an earlier job, if one of the window has this one's id; its body tells how.
function gates.known_id(id, hash, place, window_ms)
  local field = 'i' .. id
  local before = taken(field)
  if before and before.by ~= place then
    return before.more == hash and 'duplicate' or 'conflict'
  elseif not before then
    set_taken(field, place, gates.now + window_ms, gates.now, hash)
  end
end

-- A job goes to another place before it has run: it asks for its id there anew.
function gates.forget_id(id, place)
  local before = taken('i' .. id)
  if before and before.by == place then
    redis.call('HDEL', unique_key, 'i' .. id)
    redis.call('ZREM', ends_key, 'i' .. id)
  end
end

-- Claim a unique value: returns an answer and its detail, or nothing where the job may go on.
-- `mode` is unique, throttle or debounce; `wakes` is set when a debounced job's time has come. Of a
-- burst the one with the highest ticket stays, in whatever order they ask.
function gates.claim(value, id, ticket, mode, ms, ms_max, wakes)
  local field = 'u' .. value
  local before = taken(field)
  if mode == 'debounce' and not wakes then
    local since, replaced = gates.now, nil
    local waits_with = before and string.match(before.more, '^waits (%S+)$')
    if waits_with then
      if before.by ~= id and waits_with > ticket then
        return 'replaced', before.by
      end
      since = before.since
      replaced = before.by ~= id and before.by or nil
    end
    local due = gates.now + ms
    if ms_max > 0 then
      due = math.min(due, since + ms_max)
    end
    set_taken(field, id, gates.now + UNIQUE_MS_MAX, since, 'waits ' .. ticket)
    return 'wait', tostring(due), replaced
  elseif mode == 'debounce' then
    if before and before.by ~= id then
      return 'replaced', before.by
    end
    set_taken(field, id, gates.now + math.max(ms, 1000), gates.now, 'ran')
    return
  end
  if before and before.by ~= id then
    return 'duplicate', before.by
  end
  if mode == 'throttle' then
    if not before then
      set_taken(field, id, gates.now + ms, gates.now)
    end
    return
  end
  local since = before and before.since or gates.now
  set_taken(field, id, gates.now + UNIQUE_MS_MAX, since, tostring(ms))
end

-- A job with a unique value has ended: the value is free, or taken until its window is over.
function gates.disclaim(value, id)
  local field = 'u' .. value
  local before = taken(field)
  -- The last of a burst may end before its time: nobody stands for that burst any more.
  local is_waiting = before and string.find(before.more, '^waits ')
  local window_ms = before and before.by == id and (is_waiting and 0 or tonumber(before.more))
  if window_ms then
    if window_ms > 0 and before.since + window_ms > gates.now then
      set_taken(field, id, before.since + window_ms, before.since, '0')
    else
      redis.call('HDEL', unique_key, field)
      redis.call('ZREM', ends_key, field)
    end
  end
end

function gates.forget_claims(most)
  for _, field in ipairs(redis.call('ZRANGEBYSCORE', ends_key, '-inf', gates.now, 'LIMIT', 0, most)) do
    if not taken(field) then
      redis.call('HDEL', unique_key, field)
    end
    redis.call('ZREM', ends_key, field)
  end
end

-- XADD by a producer who wants to know at once: returns the entry's id, `=` and the id of the job
-- that this one duplicates, or both with > between where it takes another's place.
function gates.append(lane, fields)
  local own = {}
  for i = 1, #fields, 2 do
    own[fields[i]] = fields[i + 1]
  end
  local entry = redis.pcall('XADD', lane, '*', unpack(fields))
  if type(entry) == 'table' or not own.unique then
    return entry
  end
  local mode = own.debounce and 'debounce' or own.throttle and 'throttle' or 'unique'
  local ms = tonumber(own.debounce or own.throttle or own.window or '0')
  local id = own.id or string.sub(string.match(lane, '[^:]+$'), 1, 1) .. '-' .. entry
  local word, detail, other = gates.claim(own.unique, id, gates.ticket_of(entry), mode, ms,
    tonumber(own['debounce-max'] or '0'), false)
  if word == 'duplicate' then
    -- Nobody has seen the entry: scripts run alone.
    redis.call('XDEL', lane, entry)
    return '=' .. detail
  end
  return other and entry .. '>' .. other or entry
end
