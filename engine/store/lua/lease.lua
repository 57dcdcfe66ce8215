-- lease: take or keep the right to drive a queue's operations.
--
-- KEYS[1]  lease  string with TTL: the token of the engine that drives them
-- ARGV[1]  token  the caller's
-- ARGV[2]  ms     how long it has it without asking again
--
-- Returns 1 if the caller has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
-- DEL comes first: a server that is out of memory lets a script go on once it has written.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
