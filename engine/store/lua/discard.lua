-- discard: drop dead jobs for good.
--
-- KEYS[1]  dead         stream of dead jobs
-- KEYS[2]  dead groups  hash: <fingerprint>:n, :first, :last, :sample
-- ARGV[…]  for each job: entry id, fingerprint
--
-- Returns how many were dropped. Entries that are gone are passed over.
local dropped = 0
for i = 1, #ARGV, 2 do
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    dropped = dropped + 1
    local print = ARGV[i + 1]
    if redis.call('HEXISTS', KEYS[2], print .. ':n') == 0 then
      -- Deaths beyond the bound of groups are counted together.
      print = 'other'
    end
    if redis.call('HINCRBY', KEYS[2], print .. ':n', -1) <= 0 then
      redis.call('HDEL', KEYS[2], print .. ':n', print .. ':first', print .. ':last',
        print .. ':sample')
    end
  end
end
return dropped
