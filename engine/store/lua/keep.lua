-- keep: keep a value for a while.
--
-- KEYS[1]  key    string with TTL: a page's session, or a plan
-- ARGV[1]  value  what is kept
-- ARGV[2]  ms     how long
--
-- Returns 1.
-- DEL comes first: a server that is out of memory lets a script go on once it has written.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
