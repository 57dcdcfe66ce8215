-- limit: a running job asks a limit whether it may go on, or shuts it for everybody.
--
-- needs: gates, claims
--
-- KEYS[1]   stream      the job's stream
-- KEYS[2…]  the 18 keys of `gates`
-- ARGV[1]   group
-- ARGV[2]   consumer    who holds the entry
-- ARGV[3]   name        the stream's name
-- ARGV[4]   entry
-- ARGV[5]   deliveries
-- ARGV[6]   limit
-- ARGV[7]   shut_ms     how long nobody is let through; 0 to ask
-- ARGV[8]   ticket      the job's place in the order, or an empty string
-- ARGV[9]   head        packed: key, unique value and id of the job
--
-- Returns open, shut, or lost where the consumer does not hold the entry.
local stream, group, consumer, name, entry = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local limit, shut_ms = ARGV[6], tonumber(ARGV[7])
local place, lane = name .. '/' .. entry, gates.lane_of(name)
local row = redis.call('XPENDING', stream, group, entry, entry, 1, consumer)[1]
if not row or row[4] ~= tonumber(ARGV[5]) then
  return 'lost'
end
-- A server that is out of memory lets a script go on once it has written.
redis.call('XACK', stream, group, '0-0')
gates.use(group)
if shut_ms > 0 then
  gates.shut(limit, gates.now + shut_ms)
  return 'shut'
end
local ticket = ARGV[8] ~= '' and ARGV[8] or gates.ticket_of(entry)
local head = cmsgpack.unpack(ARGV[9])
local held = gates.noted(place) or { key = head[1], ticket = ticket, unique = head[2],
  id = head[3], limits = '', paid = '' }
if gates.has_limit(held.limits, limit) then
  -- It has its place, and paid when it was let through. What it asks for beyond that is taken from
  -- those to come: to wait would make it start over, and ask for the same once more.
  if gates.shut_until(limit) then
    return 'shut'
  elseif gates.has_limit(held.paid, limit) then
    held.paid = gates.without(held.paid, limit)
  else
    gates.take_token(limit)
  end
else
  if not gates.limit_is_open(limit) or gates.waits_before(lane, limit, ticket) then
    return 'shut'
  end
  gates.take_token(limit)
  gates.take_place(limit)
  held.limits = held.limits == '' and limit or held.limits .. ' ' .. limit
end
gates.note(place, 'a', held, held.ticket)
return 'open'
