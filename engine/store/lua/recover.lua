-- recover: hand an engine those of its own entries that it does not know of, since the reply which
-- brought them got lost.
--
-- KEYS[1]   lane      the lane's stream
-- ARGV[1]   group
-- ARGV[2]   consumer
-- ARGV[3]   count     most entries to look at
-- ARGV[4…]  entry ids that the engine knows of
--
-- Returns {{id, fields, delivery count}, …}; their delivery counts stay as they are.
local known = {}
for i = 4, #ARGV do
  known[ARGV[i]] = true
end
local found = {}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3], ARGV[2])) do
  if not known[row[1]] then
    local entry = redis.call('XRANGE', KEYS[1], row[1], row[1])[1]
    if entry then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, row[1], 'RETRYCOUNT', row[4], 'JUSTID')
      found[#found + 1] = { entry[1], entry[2], row[4] }
    end
  end
end
return found
