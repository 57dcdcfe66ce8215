-- reclaim: take over entries whose engine has been silent, and find those that were deleted.
--
-- KEYS[1]  lane      the lane's stream
-- KEYS[2]  settled   hash of the last settlements, and of the lanes' marks: see `settle`
-- ARGV[1]  group
-- ARGV[2]  consumer  who takes them
-- ARGV[3]  idle_ms   least idle time
-- ARGV[4]  cursor    where the last call stopped, 0-0 to begin
-- ARGV[5]  count     most entries to take
-- ARGV[6]  suspect   delivery count from which an entry may be what kills engines
-- ARGV[7]  suspects  most suspects to take; the others stay as they are, for the next call
-- ARGV[8]  released  the consumer that keeps those
-- ARGV[9]  idle_back idle time in ms that they are given, beyond any lease
-- ARGV[10] name      of the lane
--
-- Returns cursor, {{id, fields, delivery count}, …}, {ids of deleted entries}.
local lane, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local found = redis.call('XAUTOCLAIM', lane, group, consumer, ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local taken, deleted = {}, found[3] or {}
local bodies, suspects = 0, tonumber(ARGV[7])
for _, entry in ipairs(found[2]) do
  -- Redis 6.2 claims deleted entries too, and gives no body for them.
  if entry and entry[2] then
    local row = redis.call('XPENDING', lane, group, entry[1], entry[1], 1, consumer)[1]
    local deliveries = row and row[4] or 1
    if deliveries >= tonumber(ARGV[6]) and suspects == 0 then
      redis.call('XCLAIM', lane, group, ARGV[8], 0, entry[1], 'IDLE', ARGV[9],
        'RETRYCOUNT', deliveries - 1, 'JUSTID')
    else
      if deliveries >= tonumber(ARGV[6]) then
        suspects = suspects - 1
      end
      bodies = bodies + 1
      taken[bodies] = { entry[1], entry[2], deliveries }
    end
  end
end
if not found[3] then
  -- Before Redis 7 the deleted ones must be told apart by hand: pending with us, absent from the lane.
  for _, row in ipairs(redis.call('XPENDING', lane, group, '-', '+', ARGV[5], consumer)) do
    if #redis.call('XRANGE', lane, row[1], row[1]) == 0 then
      deleted[#deleted + 1] = row[1]
      redis.call('XACK', lane, group, row[1])
    end
  end
end
if #found[2] + #deleted > 0 then
  -- Entries have left their holders, who must look at each from now on.
  redis.call('HDEL', KEYS[2], '@' .. ARGV[10])
end
return { found[1], taken, deleted }
