-- drop: drop dead jobs of an operation for good; a key that one of them kept goes to the next job.
--
-- needs: groups, operation, gates, claims
--
-- KEYS[1]   dead  stream of dead jobs
-- KEYS[2-6] those of `groups` and `operation`
-- KEYS[7…]  the 18 keys of `gates`
-- ARGV[1-3] those of `operation`
-- ARGV[4-7] cursor, due, complete, unable: as `put_off` has them
-- ARGV[8…]  for each job: entry id, fingerprint, name of its lane, key, ticket; the last two are
--           empty strings for jobs that have no place in an order
--
-- Returns whether the operation is the caller's; how many were dropped; how many were gone.
if not operation.is_driven() then
  return { 0, 0, 0 }
end
local dropped, gone = 0, 0
for i = 8, #ARGV, 5 do
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    dropped = dropped + 1
    groups.lower(groups.counted_as(ARGV[i + 1]))
    local lane, key, ticket = gates.lane_of(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
    if ticket ~= '' and gates.is_blocked(lane, key, ticket) then
      gates.pass_on(lane, key, ticket, false)
    end
  else
    gone = gone + 1
  end
end
operation.count('moved', dropped)
operation.count('gone', gone)
operation.note(ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return { 1, dropped, gone }
