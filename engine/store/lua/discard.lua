-- discard: drop dead jobs for good; a key that one of them kept goes to the next job.
--
-- needs: gates, claims, groups
--
-- KEYS[1]   dead         stream of dead jobs
-- KEYS[2]   dead groups  hash: <fingerprint>:n, :first, :last, :sample
-- KEYS[3…]  the 18 keys of `gates`
-- ARGV[…]   for each job: entry id, fingerprint, name of its lane, key, ticket; the last two are
--           empty strings for jobs that have no place in an order
--
-- Returns how many were dropped. Entries that are gone are passed over.
local dropped = 0
for i = 1, #ARGV, 5 do
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    dropped = dropped + 1
    groups.lower(groups.counted_as(ARGV[i + 1]))
    local lane, key, ticket = gates.lane_of(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
    if ticket ~= '' and gates.is_blocked(lane, key, ticket) then
      gates.pass_on(lane, key, ticket, false)
    end
  end
end
return dropped
