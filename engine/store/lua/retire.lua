-- retire: delete consumers that hold nothing and have been idle for long.
--
-- KEYS[1]   lane     the lane's stream
-- KEYS[2]   settled  hash: consumer:lane -> number of its last settlement
-- ARGV[1]   group
-- ARGV[2]   idle_ms  least idle time
-- ARGV[3]   lane     the lane's name, as in the fields of KEYS[2]
-- ARGV[4]   only     one consumer to look at, or an empty string for all
--
-- Returns how many were deleted. One with pending entries is never deleted: its entries would stay
-- in the stream and be delivered to nobody.
local deleted = 0
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #row, 2 do
    about[row[i]] = row[i + 1]
  end
  if about.pending == 0 and about.idle >= tonumber(ARGV[2])
    and (ARGV[4] == '' or ARGV[4] == about.name) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
    redis.call('HDEL', KEYS[2], about.name .. ':' .. ARGV[3])
    deleted = deleted + 1
  end
end
return deleted
