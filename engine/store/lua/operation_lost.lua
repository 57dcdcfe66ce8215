-- operation_lost: count jobs of an operation that have not ended and are nowhere any more.
--
-- needs: places
--
-- KEYS[1]  operation  hash: dead entry -> what it was before, until its job has ended
-- KEYS[2]  flows      zset of parents that wait
-- KEYS[3…] those of `places`
-- ARGV[1]  group
-- ARGV[2]  jobs_max   most jobs to look at
-- ARGV[3]  bytes_max  about how many bytes they may take
-- ARGV[4]  mark       what stands in the engine's own field of its jobs, before the dead entry
-- ARGV[5…] for each: dead entry, id of its job
--
-- Returns how many, or -1 where that cannot be told.
local wanted, mark = {}, ARGV[4]
for i = 5, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 and not places.is_parent(2, ARGV[i + 1]) then
    wanted[ARGV[i]] = true
  end
end
if next(wanted) and not places.walk(3, ARGV[1], ARGV[2], ARGV[3], function(text)
  local _, at = string.find(text, mark, 1, true)
  while at do
    wanted[string.match(text, '^[%d-]*', at + 1)] = nil
    _, at = string.find(text, mark, at, true)
  end
end) then
  return -1
end
local lost = 0
for _ in pairs(wanted) do
  lost = lost + 1
end
return lost
