-- flow_mark: note which children of a flow have been sent, or that nothing is left to do for it.
--
-- KEYS[1]  flow   hash of one flow
-- KEYS[2]  todo   zset: flow by the Unix ms of the next try
-- ARGV[1]  name   the flow
-- ARGV[2]  over   1 once all that was left to do for a closed flow is done
-- ARGV[3]  until  Unix ms until which the caller has the flow
-- ARGV[4…] numbers of children that were sent, from 0
--
-- Nothing is noted for whoever has not got the flow any more: another engine may be sending the same
-- children, and what is known to be sent is forgotten in its own queue once it has ended.
--
-- Returns how the flow was closed, or an empty string.
local states = redis.call('HGET', KEYS[1], 'states')
local closed = redis.call('HGET', KEYS[1], 'closed') or ''
if not states or (ARGV[2] == '1' and closed ~= '') then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('UNLINK', KEYS[1])
  return closed
end
if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or -1) ~= tonumber(ARGV[3]) then
  return closed
end
-- A server that is out of memory lets a script go on once it has written.
redis.call('ZREM', KEYS[2], '')
-- The string is put together once, since it may be long.
local places = {}
for i = 4, #ARGV do
  places[i - 3] = tonumber(ARGV[i]) + 1
end
table.sort(places)
local parts, from = {}, 1
for _, at in ipairs(places) do
  if at >= from and string.sub(states, at, at) == 'p' then
    parts[#parts + 1] = string.sub(states, from, at - 1) .. 's'
    from = at + 1
  end
end
states = table.concat(parts) .. string.sub(states, from)
redis.call('HSET', KEYS[1], 'states', states)
if closed == 'failed' or closed == 'cancelled' then
  -- Whoever sends has stopped by now: the others may be called back at once.
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
elseif not string.find(states, 'p', 1, true) then
  redis.call('ZREM', KEYS[2], ARGV[1])
  if closed ~= '' then
    redis.call('UNLINK', KEYS[1])
  end
end
return closed
