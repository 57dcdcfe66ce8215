-- flow_lost: find children of flows that are nowhere any more, and tell their parents.
--
-- KEYS[1]    sent        hash: child of a flow -> lane and entry, or `lost` once that was told
-- KEYS[2]    ends        stream of children's messages to their parents
-- KEYS[3]    flows       zset of parents that wait
-- KEYS[4]    delayed     zset: packed envelope by due time (Unix ms)
-- KEYS[5-8]  parked      zsets of the lanes: jobs behind a gate
-- KEYS[9-12] lanes       critical, high, normal, low
-- KEYS[13-16] ready      likewise: their streams of jobs that gates let through
-- KEYS[17…]  held        streams of the held types that the children have or may count as
-- ARGV[1]    group
-- ARGV[2]    jobs_max    most jobs to look at
-- ARGV[3…]   for each: child of a flow, its job id, its message
--
-- Whatever moves a job from one place to another is one script in this slot too, so what is in none
-- of these places now is not on its way either. A child that an engine has lives, even if somebody
-- deleted its entry: its lease holder, or whoever takes it over, ends it.
--
-- Returns the places in the list, from 0, of those whose parents were told; none of them where there
-- is too much to look at, or where some engine has an entry that was deleted, whosever it was.
local group, left = ARGV[1], tonumber(ARGV[2])
local wanted, is_any = {}, false
for i = 3, #ARGV, 3 do
  local lives = false
  local place = redis.call('HGET', KEYS[1], ARGV[i])
  local lane, entry = string.match(place or '', '^(%d)/(.+)$')
  if lane then
    local key = KEYS[8 + tonumber(lane)]
    lives = #redis.call('XRANGE', key, entry, entry) > 0
  end
  local id = ARGV[i + 1]
  local named = redis.call('ZRANGEBYLEX', KEYS[3], '[' .. id .. '/', '(' .. id .. '0', 'LIMIT', 0, 1)
  if place ~= 'lost' and not lives and #named == 0 then
    wanted[id], is_any = true, true
  end
end
if not is_any then
  return {}
end

for number = 4, 8 do
  left = left - redis.call('ZCARD', KEYS[number])
end
for number = 9, #KEYS do
  left = left - redis.call('XLEN', KEYS[number])
end
if left < 0 then
  return {}
end

-- As engine/wire/packing.py writes the field `id`, wherever it stands in a packed job.
local ID = '\219\0\0\0\2id\219'
local function note_packed(packed)
  local _, at = string.find(packed, ID, 1, true)
  while at do
    local length = struct.unpack('>I4', string.sub(packed, at + 1, at + 4) .. '\0\0\0\0')
    wanted[string.sub(packed, at + 5, at + 4 + length)] = nil
    _, at = string.find(packed, ID, at, true)
  end
end
for number = 4, 8 do
  for _, member in ipairs(redis.call('ZRANGE', KEYS[number], 0, -1)) do
    note_packed(member)
  end
end
for number = 17, #KEYS do
  for _, row in ipairs(redis.call('XRANGE', KEYS[number], '-', '+')) do
    for _, value in ipairs(row[2]) do
      note_packed(value)
    end
  end
end
for number = 9, 16 do
  local there = {}
  for _, row in ipairs(redis.call('XRANGE', KEYS[number], '-', '+')) do
    there[row[1]] = true
    for _, value in ipairs(row[2]) do
      wanted[value] = nil
    end
  end
  local pending = redis.pcall('XPENDING', KEYS[number], group, '-', '+', ARGV[2])
  for _, row in ipairs(pending.err and {} or pending) do
    if not there[row[1]] then
      return {}
    end
  end
end

local told = {}
for i = 3, #ARGV, 3 do
  if wanted[ARGV[i + 1]] then
    -- HDEL comes first: a server that is out of memory lets a script go on once it has written.
    redis.call('HDEL', KEYS[1], '')
    redis.call('HSET', KEYS[1], ARGV[i], 'lost')
    redis.call('XADD', KEYS[2], '*', 'job', ARGV[i + 2])
    told[#told + 1] = i / 3 - 1
  end
end
return told
