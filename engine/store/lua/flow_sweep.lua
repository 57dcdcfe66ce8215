-- flow_sweep: take the right to look for lost children of a queue's flows.
--
-- KEYS[1]  sweep  string with TTL: set while nobody else is to look
-- ARGV[1]  ms     how long that is
--
-- Returns 1 if the caller has it.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
-- DEL comes first: a server that is out of memory lets a script go on once it has written.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
