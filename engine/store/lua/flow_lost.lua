-- flow_lost: find children of flows that are nowhere any more, and tell their parents.
--
-- needs: places
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
-- ARGV[3]    bytes_max   about how many bytes they may take
-- ARGV[4…]   for each: child of a flow, its job id, its message
--
-- Returns the places in the list, from 0, of those whose parents were told; none of them where there
-- is too much to look at, or where some engine has an entry that was deleted, whosever it was.
local wanted, is_any = {}, false
for i = 4, #ARGV, 3 do
  local lives = false
  local place = redis.call('HGET', KEYS[1], ARGV[i])
  local lane, entry = string.match(place or '', '^(%d)/(.+)$')
  if lane then
    local key = KEYS[8 + tonumber(lane)]
    lives = #redis.call('XRANGE', key, entry, entry) > 0
  end
  local id = ARGV[i + 1]
  if place ~= 'lost' and not lives and not places.is_parent(3, id) then
    wanted[id], is_any = true, true
  end
end
if not is_any then
  return {}
end

-- As engine/wire/packing.py writes the field `id`, wherever it stands in a packed job.
local ID = '\219\0\0\0\2id\219'
if not places.walk(4, ARGV[1], ARGV[2], ARGV[3], function(text)
  wanted[text] = nil
  local _, at = string.find(text, ID, 1, true)
  while at do
    local length = struct.unpack('>I4', string.sub(text, at + 1, at + 4) .. '\0\0\0\0')
    wanted[string.sub(text, at + 5, at + 4 + length)] = nil
    _, at = string.find(text, ID, at, true)
  end
end) then
  return {}
end

local told = {}
for i = 4, #ARGV, 3 do
  if wanted[ARGV[i + 1]] then
    -- HDEL comes first: a server that is out of memory lets a script go on once it has written.
    redis.call('HDEL', KEYS[1], '')
    redis.call('HSET', KEYS[1], ARGV[i], 'lost')
    redis.call('XADD', KEYS[2], '*', 'job', ARGV[i + 2])
    told[#told + 1] = (i - 4) / 3
  end
end
return told
