-- summon: bring cancelled jobs to their lanes, so that they end without waiting for their time.
--
-- KEYS[1]    cancelled  hash: job id -> tombstone (JSON)
-- KEYS[2]    delayed    zset: packed lane and fields, by due time (Unix ms)
-- KEYS[3-6]  lanes      critical, high, normal, low
-- KEYS[7-10] parked     zsets, critical to low: jobs that wait behind a gate; see `gates`
-- KEYS[11…]  held       streams of set-aside jobs, one per type
-- ARGV[1]    place      where the last call stopped: 0 for the delayed set, else a number of the
--                       keys after KEYS[6], then a cursor or an entry id, as i/c; 0/0 to begin
-- ARGV[2]    count      about how many jobs to look at
-- ARGV[3-6]  names of the lanes, in the order of their keys
--
-- Jobs that gates had let through come to their lane, too: their ends give back what they hold. A
-- job that is brought carries its tombstone in hexadecimal digits, so that no engine starts it
-- which has not heard of the order.
--
-- Returns how many were moved, and the place; 0/0 once everything was looked at. What its lane does
-- not take stays where it is.
local streams = {}
for i = 3, 6 do
  streams[ARGV[i]] = KEYS[i]
end

local function id_of(fields)
  for i = 2, #fields - 1, 2 do
    if fields[i] == '_engine' then
      local id, ms = string.match(fields[i + 1], '^{"id":"([^"\\]*)","enqueued_ms":(%d+)')
      if id then
        return id, tonumber(ms), i + 1
      end
      local read, meta = pcall(cjson.decode, fields[i + 1])
      if read and type(meta) == 'table' then
        return meta.id, tonumber(meta.enqueued_ms), i + 1
      end
    end
  end
end

-- Let a job carry the tombstone that names it, and not an earlier one of the same id.
local function mark(fields)
  local id, enqueued_ms, at = id_of(fields)
  local raw = type(id) == 'string' and redis.call('HGET', KEYS[1], id)
  if not raw then
    return false
  end
  local read, stone = pcall(cjson.decode, raw)
  local at_ms = read and type(stone) == 'table' and tonumber(stone.at_ms) or 0
  if at_ms ~= 0 and stone.ahead ~= true and (enqueued_ms or 0) > at_ms then
    return false
  end
  local digits = string.gsub(string.sub(raw, 1, 2000), '.', function(char)
    return string.format('%02x', string.byte(char))
  end)
  fields[at] = string.gsub(fields[at], '^{', '{"cancelled":"' .. digits .. '",', 1)
  return true
end

-- Where few ids are looked for, what holds none of them need not be unpacked.
local wanted
if redis.call('HLEN', KEYS[1]) <= 20 then
  wanted = redis.call('HKEYS', KEYS[1])
  for _, id in ipairs(wanted) do
    if string.find(id, '["\\%c]') then
      wanted = nil -- it is written in another way within JSON
      break
    end
  end
end

local function may_be_cancelled(packed)
  for _, id in ipairs(wanted or {}) do
    if string.find(packed, id, 1, true) then
      return true
    end
  end
  return not wanted
end

-- The first item of what is packed is the name of the stream, but for parked jobs.
local function bring(packed, parked_in)
  if not may_be_cancelled(packed) then
    return false
  end
  local read, fields = pcall(cmsgpack.unpack, packed)
  if not read or type(fields) ~= 'table' then
    return false
  end
  local stream = parked_in or streams[string.match(tostring(fields[1]), '^[^:]*')]
  if not stream or #fields % 2 == 0 or #fields < 3 or not mark(fields) then
    return false
  end
  return type(redis.pcall('XADD', stream, '*', unpack(fields, 2))) ~= 'table'
end

local moved = 0

-- A page of a zset; returns how many jobs it had, and where the next page begins.
local function look_at_zset(at, cursor, count)
  local set = at == 0 and KEYS[2] or KEYS[6 + at]
  -- Taking nothing away counts as a write, and a server that is out of memory lets a script go on
  -- once it has written.
  redis.call('ZREM', set, '')
  local page = redis.call('ZSCAN', set, cursor, 'COUNT', count)
  for i = 1, #page[2], 2 do
    -- A parked job: its line, its ticket, and packed what it asks for and its fields.
    local packed = at == 0 and page[2][i] or string.match(page[2][i], '^[^%z]*%z[^%z]*%z(.*)$')
    if packed and bring(packed, at > 0 and KEYS[2 + at] or nil) then
      redis.call('ZREM', set, page[2][i])
      moved = moved + 1
    end
  end
  return #page[2] / 2, page[1]
end

local function look_at_stream(at, cursor, count)
  local held = KEYS[6 + at]
  redis.call('XDEL', held, '0-0')
  local low = cursor == '0' and '-' or '(' .. cursor
  local entries = redis.call('XRANGE', held, low, '+', 'COUNT', count)
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'job' and bring(entry[2][2]) then
      redis.call('XDEL', held, entry[1])
      moved = moved + 1
    end
  end
  return #entries, #entries == count and entries[#entries][1] or '0'
end

local at, cursor = string.match(ARGV[1], '^(%d+)/(.+)$')
at = tonumber(at)
local left = tonumber(ARGV[2])
while left > 0 and KEYS[6 + at] do
  local look, looked = at <= 4 and look_at_zset or look_at_stream, nil
  looked, cursor = look(at, cursor, left)
  left = left - looked
  if cursor == '0' then
    at = at + 1
  end
end
if not KEYS[6 + at] then
  return { moved, '0/0' }
end
return { moved, at .. '/' .. cursor }
