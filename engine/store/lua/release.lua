-- release: let through what limits may let through by now, and forget unique values that ended.
--
-- needs: gates, claims
--
-- KEYS[1-4]  lanes  critical, high, normal, low
-- KEYS[5…]   the 18 keys of `gates`
-- ARGV[1]    most   most jobs to let through per limit
-- ARGV[2]    all    1 to look at every limit that somebody waits for, whenever it is due, and after
--                   what jobs hold whose entries somebody deleted
--
-- Returns how many jobs were moved, and the ms until a limit is due next (-1 without one).
-- A server that is out of memory lets a script go on once it has written: jobs must end then too.
gates.forget('-')
local due_limits = KEYS[#KEYS - 3]
local most, moved = tonumber(ARGV[1]), 0
-- A server that is out of memory lets a script go on once it has written.
redis.call('ZREM', due_limits, '')
local upto = ARGV[2] == '1' and '+inf' or gates.now
local names = redis.call('ZRANGEBYSCORE', due_limits, '-inf', upto, 'LIMIT', 0, 100)
for _, name in ipairs(names) do
  if moved < most then
    moved = moved + gates.release(name, most - moved)
  end
end
gates.forget_claims(200)
if ARGV[2] == '1' then
  gates.forget_limits(200)
  -- Such an entry is in no pending list, so nobody would ever end it.
  for _, place in ipairs(gates.some_noted(50)) do
    local number, entry = gates.lane_of(string.match(place, '^%a+')), string.match(place, '/(.+)$')
    local stream = string.find(place, ':ready/', 1, true) and KEYS[#KEYS - 10 + number]
      or KEYS[number]
    if #redis.call('XRANGE', stream, entry, entry) == 0 then
      gates.leave(number, place, 'free', '', '', '', '')
    end
  end
  gates.release_freed()
end
local next = redis.call('ZRANGE', due_limits, 0, 0, 'WITHSCORES')
if #next == 0 or tonumber(next[2]) >= gates.FAR then
  return { moved, -1 }
end
return { moved, math.max(0, math.ceil(tonumber(next[2]) - gates.now)) }
