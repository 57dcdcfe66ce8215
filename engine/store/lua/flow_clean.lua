-- flow_clean: forget children whose ends their parents' queues know of.
--
-- KEYS[1]  ends       stream of children's messages to their parents
-- KEYS[2]  sent       hash: child of a flow -> lane and entry
-- KEYS[3]  cancelled  hash: job id -> tombstone (JSON)
-- ARGV[1]  mark       what stands in tombstones that flows laid
-- ARGV[2…] for each: entry of its message, child of a flow, its job id
--
-- Returns how many messages there were still.
local dropped = 0
for i = 2, #ARGV, 3 do
  dropped = dropped + redis.call('XDEL', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i + 1])
  -- It may have ended before its engine heard that it was cancelled.
  local stone = redis.call('HGET', KEYS[3], ARGV[i + 2])
  if stone and string.find(stone, ARGV[1], 1, true) then
    redis.call('HDEL', KEYS[3], ARGV[i + 2])
  end
end
return dropped
