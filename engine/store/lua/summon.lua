-- summon: bring cancelled jobs to their lanes, so that they end without waiting for their time.
--
-- KEYS[1]    cancelled  hash: job id -> tombstone (JSON)
-- KEYS[2]    delayed    zset: packed lane and fields, by due time (Unix ms)
-- KEYS[3-6]  lanes      critical, high, normal, low
-- KEYS[7…]   held       streams of set-aside jobs, one per type
-- ARGV[1]    place      where the last call stopped: index of the key after KEYS[2], then a cursor
--                       or an entry id, as i/c; 0/0 to begin
-- ARGV[2]    count      about how many jobs to look at
-- ARGV[3-6]  names of the lanes, in the order of their keys
--
-- A job that is brought carries its tombstone in hexadecimal digits, so that no engine starts it
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

local function bring(packed)
  local read, fields = pcall(cmsgpack.unpack, packed)
  local stream = read and type(fields) == 'table' and streams[fields[1]]
  if not stream or #fields % 2 == 0 or #fields < 3 or not mark(fields) then
    return false
  end
  return type(redis.pcall('XADD', stream, '*', unpack(fields, 2))) ~= 'table'
end

local moved = 0
local at, cursor = string.match(ARGV[1], '^(%d+)/(.+)$')
at = tonumber(at)
if at == 0 then
  -- Taking nothing away counts as a write, and a server that is out of memory lets a script go on
  -- once it has written.
  redis.call('ZREM', KEYS[2], '')
  local page = redis.call('ZSCAN', KEYS[2], cursor, 'COUNT', ARGV[2])
  for i = 1, #page[2], 2 do
    if bring(page[2][i]) then
      redis.call('ZREM', KEYS[2], page[2][i])
      moved = moved + 1
    end
  end
  if page[1] ~= '0' then
    return { moved, '0/' .. page[1] }
  end
elseif KEYS[6 + at] then
  local held = KEYS[6 + at]
  redis.call('XDEL', held, '0-0')
  local low = cursor == '0' and '-' or '(' .. cursor
  local entries = redis.call('XRANGE', held, low, '+', 'COUNT', ARGV[2])
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'job' and bring(entry[2][2]) then
      redis.call('XDEL', held, entry[1])
      moved = moved + 1
    end
  end
  if #entries == tonumber(ARGV[2]) then
    return { moved, at .. '/' .. entries[#entries][1] }
  end
end
if KEYS[7 + at] then
  return { moved, (at + 1) .. '/0' }
end
return { moved, '0/0' }
