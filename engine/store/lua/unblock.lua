-- unblock: let the next jobs go of keys that dead jobs keep.
--
-- needs: gates, claims
--
-- KEYS[…]   the 18 keys of `gates`
-- ARGV[1]   lane  name of the lane
-- ARGV[…]   for each key: the key, and the ticket of the dead job
--
-- Returns how many keys were let go; those that another has meanwhile are passed over.
-- A server that is out of memory lets a script go on once it has written.
redis.call('HDEL', KEYS[#KEYS], '')
local lane, freed = gates.lane_of(ARGV[1]), 0
for i = 2, #ARGV, 2 do
  if gates.is_blocked(lane, ARGV[i], ARGV[i + 1]) then
    gates.pass_on(lane, ARGV[i], ARGV[i + 1], false)
    freed = freed + 1
  end
end
return freed
