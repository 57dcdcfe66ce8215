-- control: change what operators set for a queue.
--
-- KEYS[1]  control  hash: paused, paused_by, concurrency, jobs_max, bytes_max, hold:<type>
-- ARGV[1]  keep     leave everything as it is where the first field holds this already; * stands
--                   for anything, an empty string for nothing
-- ARGV[2…] field, value, …; an empty value takes the field away
--
-- Returns what the first field held before, or an empty string.
local before = redis.call('HGET', KEYS[1], ARGV[2]) or ''
if before ~= '' and (ARGV[1] == '*' or ARGV[1] == before) then
  return before
end
-- HDEL comes first: a server that is out of memory lets a script go on once it has written.
for i = 2, #ARGV, 2 do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return before
