-- tally: add what one engine counted to the counters of a minute, once.
--
-- KEYS[1]  minutes   hash of counters by minute, one key an hour
-- ARGV[1]  place     field that holds the number of the engine's last tally in this hour
-- ARGV[2]  sequence  number of this tally; a repeated one changes nothing
-- ARGV[3]  ttl_s     how many s the hash is kept
-- ARGV[4]  field     of what the queue holds
-- ARGV[5]  levels    what it holds, or an empty string
-- ARGV[6…] field, counts per bucket to be added (`0,0,3`), …
--
-- Returns 1, or 0 if it had been applied.
local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then
  return 0
end
for i = 6, #ARGV, 2 do
  local sums, at = {}, 0
  for count in string.gmatch(redis.call('HGET', KEYS[1], ARGV[i]) or '', '%d+') do
    sums[#sums + 1] = tonumber(count)
  end
  for count in string.gmatch(ARGV[i + 1], '%d+') do
    at = at + 1
    sums[at] = (sums[at] or 0) + tonumber(count)
  end
  redis.call('HSET', KEYS[1], ARGV[i], table.concat(sums, ','))
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
