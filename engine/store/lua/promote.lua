-- promote: move due jobs from the delayed set to their lanes.
--
-- needs: ready
--
-- KEYS[1]    delayed  zset: packed lane and fields, by due time (Unix ms)
-- KEYS[2-5]  lanes    critical, high, normal, low
-- KEYS[6-9]  ready    their streams of jobs that gates let through
-- KEYS[10]   control  hash: told that one of these is in use
-- ARGV[1]    count    most jobs to move
-- ARGV[2-9]  names of the streams, in the order of their keys
--
-- Returns how many were moved, and the ms until the next one is due (-1 without one). A job whose
-- lane takes nothing (its last id is the highest there is, or it holds another type) stays delayed.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local moved
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #due > 0 then
  -- First, so that a server that is out of memory lets the rest of the script go on.
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #due - 1)
  local streams, ready = {}, {}
  for i = 2, #ARGV do
    streams[ARGV[i]] = KEYS[i]
    ready[ARGV[i]] = i > 5
  end
  local stays = {}
  for _, member in ipairs(due) do
    local added
    local read, fields = pcall(cmsgpack.unpack, member)
    local stream = read and type(fields) == 'table' and streams[fields[1]]
    if stream and #fields % 2 == 1 and #fields > 1 then
      if ready[fields[1]] then
        use_ready()
      end
      added = redis.pcall('XADD', stream, '*', unpack(fields, 2))
    else
      -- Not ours: the lane's reader will bury it with its bytes, by the rules of the wire.
      added = redis.pcall('XADD', KEYS[4], '*', 'packed', member)
    end
    if type(added) == 'table' then
      stays[#stays + 1] = now + 5000
      stays[#stays + 1] = member
    end
  end
  if #stays > 0 then
    redis.call('ZADD', KEYS[1], unpack(stays))
    moved = #due - #stays / 2
  end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #next == 0 then
  return { moved or #due, -1 }
end
return { moved or #due, math.max(0, math.ceil(tonumber(next[2]) - now)) }
