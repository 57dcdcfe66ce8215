-- audit: record who changed what.
--
-- KEYS[1]  audit  stream, capped
-- ARGV[1]  max    how many records to keep, about
-- ARGV[2…] field, value, …
--
-- Returns the record's entry id.
-- XTRIM comes first: a server that is out of memory lets a script go on once it has written.
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
