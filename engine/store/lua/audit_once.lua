-- audit_once: record what came of something, unless that was recorded before.
--
-- KEYS[1]  audit   stream, capped
-- ARGV[1]  max     how many records to keep, about
-- ARGV[2]  since   entry id from which on it may have been recorded
-- ARGV[3]  looked  most records to look at
-- ARGV[4]  same    how many of the fields below tell that it is the same
-- ARGV[5…] field, value, …
--
-- Returns 1 if it was recorded now, 0 if it had been.
local same = 2 * tonumber(ARGV[4])
for _, row in ipairs(redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[3])) do
  local told, equal = {}, true
  for i = 1, #row[2], 2 do
    told[row[2][i]] = row[2][i + 1]
  end
  for i = 5, 4 + same, 2 do
    equal = equal and told[ARGV[i]] == ARGV[i + 1]
  end
  if equal then
    return 0
  end
end
-- XTRIM comes first: a server that is out of memory lets a script go on once it has written.
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 5))
return 1
