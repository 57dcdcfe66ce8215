-- renew: show that leased entries are being worked on, without taking any from another engine.
--
-- KEYS[1]   lane       the lane's stream
-- ARGV[1]   group
-- ARGV[2]   consumer   who believes to hold the entries
-- ARGV[3…]  entry id, delivery count, …
--
-- Returns the ids that the consumer does not hold any more.
local mine, lost = {}, {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local row = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])[1]
  if row and row[4] == tonumber(ARGV[i + 1]) then
    -- Claiming an entry whose body was deleted would drop it unrecorded; left alone, it comes to
    -- `reclaim`, which tells of it.
    if #redis.call('XRANGE', KEYS[1], id, id) == 1 then
      mine[#mine + 1] = id
    end
  else
    lost[#lost + 1] = id
  end
end
-- Lua's stack takes some thousands of values at once, hence the steps.
for first = 1, #mine, 1000 do
  local some = { unpack(mine, first, math.min(first + 999, #mine)) }
  some[#some + 1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(some))
end
return lost
