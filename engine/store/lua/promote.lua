-- promote: move due jobs from the delayed set to their lanes.
--
-- KEYS[1]   delayed  zset: packed lane and fields, by due time (Unix ms)
-- KEYS[2…]  lanes    the lanes' streams
-- ARGV[1]   count    most jobs to move
-- ARGV[2…]  names of the lanes, in the order of their keys
--
-- Returns how many were moved, and the ms until the next one is due (-1 without one).
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #due > 0 then
  -- First, so that a server that is out of memory lets the rest of the script go on.
  redis.call('ZREM', KEYS[1], unpack(due))
  local streams = {}
  for i = 2, #ARGV do
    streams[ARGV[i]] = KEYS[i]
  end
  for _, member in ipairs(due) do
    local read, fields = pcall(cmsgpack.unpack, member)
    local stream = read and type(fields) == 'table' and streams[fields[1]]
    if stream and #fields % 2 == 1 and #fields > 1 then
      redis.call('XADD', stream, '*', unpack(fields, 2))
    else
      -- Not ours: the lane's reader will bury it with its bytes, by the rules of the wire.
      redis.call('XADD', KEYS[3], '*', 'packed', member)
    end
  end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #next == 0 then
  return { #due, -1 }
end
return { #due, math.max(0, math.ceil(tonumber(next[2]) - now)) }
