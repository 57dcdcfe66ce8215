-- settle: apply decisions about leased entries of one lane, or change nothing.
--
-- KEYS[1]   lane        the lane's stream
-- KEYS[2]   delayed     zset: packed envelope by due time (Unix ms)
-- KEYS[3]   dead        stream of dead jobs
-- KEYS[4]   dead groups hash: counts by fingerprint
-- KEYS[5]   done        stream of finished jobs
-- KEYS[6]   stats       hash of counters
-- KEYS[7]   minutes     hash of counters by minute, one key an hour
-- KEYS[8]   settled     hash: consumer:lane -> number of its last settlement; @lane -> the lane's
--                       mark, which whatever moves an entry to another holder deletes
-- KEYS[9]   events      stream, capped
-- KEYS[10]  progress    hash of running jobs' progress
-- KEYS[11…] streams of held types, reply streams, the hash of tombstones, keys of flows, as
--           counted below
-- ARGV[1]   group
-- ARGV[2]   consumer    who believes to hold the entries
-- ARGV[3]   place       field of KEYS[8] for this consumer and lane
-- ARGV[4]   sequence    number of this settlement; a repeated one is answered as applied
-- ARGV[5]   range       most entries to look at between the first and the last; the rest alone
-- ARGV[6]   first       ms of the lowest entry id of the batch
-- ARGV[7]   last        ms of the highest entry id of the batch
-- ARGV[8]   rest        packed: what is not plain success, or an empty string
-- ARGV[9]   minute      Unix minute for the statistics, and how many s they are kept, as m:s
-- ARGV[10]  done_max    bound of the done stream, in entries
-- ARGV[11]  stats       packed: counter, by how much, …
-- ARGV[12]  done        packed list of packed done entries, or an empty string
-- ARGV[13]  ended       how many of the ids below leave the lane; the rest are handed back
-- ARGV[14]  mark        the lane's mark as the consumer knows it, or an empty string
-- ARGV[15]  sure        how many of the ids below need no look while that mark stands
-- ARGV[16…] entry ids
--
-- may need: gates, claims
--
-- With these before it, this is the script for jobs that passed a gate; the 18 keys of `gates`
-- follow the others then.
--
-- `rest` is packed lists: delivery counts (id, count, …) where not 1; retries (due, member,
-- …); dead (fingerprint, sample, packed fields, …); aside (index of its stream, member, …);
-- events (json, …); replies (index of its stream, packed fields, …); finished (job id, …);
-- bounds (events max, groups max, idle of a hand-back in ms, its consumer, name of the stream, how
-- many jobs to hand over); tombstones (index of their hash, job id, …); flows that open (index of
-- the key of flows, of those with something to do, of control; then index of the flow's key, its
-- name, packed fields, …); gates left (id, how, key, ticket, unique value, job id, …); jobs put
-- behind a limit (index of the lane, limit, member, …); again (how many, names and values, …);
-- brought back, where there are any (index of their operation's hash, done or dead, dead entry, …).
--
-- Returns the ids that the consumer does not hold, of which there are none if all was applied, and
-- the lane's mark, or an empty string. With gates, also entries that were let through and are the
-- consumer's now, and how many were let through in all.
-- Returns nothing where the mark proved wrong: nothing was changed, and each id must be looked at.
local lane, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local mark_field = '@' .. string.sub(ARGV[3], #consumer + 2)
local noted = redis.call('HMGET', KEYS[8], ARGV[3], mark_field)
local mark = noted[2] or ''
if noted[1] == ARGV[4] then
  return { {}, mark, {}, 0 }
end

local rest = {}
local counts = {}
if ARGV[8] ~= '' then
  for i, packed in ipairs(cmsgpack.unpack(ARGV[8])) do
    rest[i] = cmsgpack.unpack(packed)
  end
  for i = 1, #rest[1], 2 do
    counts[rest[1][i]] = tonumber(rest[1][i + 1])
  end
end

-- The fence: each entry must be pending with this consumer and with the count it was leased with.
-- While the mark stands that the consumer knew before it read an entry, that is so.
local first_unsure = 16
if mark ~= '' and mark == ARGV[14] then
  first_unsure = 16 + tonumber(ARGV[15])
end
local held = {}
local look = tonumber(ARGV[5])
if look > 0 then
  for _, row in ipairs(redis.call('XPENDING', lane, group, ARGV[6], ARGV[7], look, consumer)) do
    held[row[1]] = row[4]
  end
end
local lost, seen = {}, {}
for i = first_unsure, #ARGV do
  local id = ARGV[i]
  local deliveries = held[id]
  if seen[id] then
    -- Two leases of one entry: only one can be the present one, and nothing here says which.
    deliveries = nil
  elseif not deliveries then
    local row = redis.call('XPENDING', lane, group, id, id, 1, consumer)[1]
    deliveries = row and row[4]
  end
  if deliveries ~= (counts[id] or 1) then
    lost[#lost + 1] = id
  end
  seen[id] = true
end
if #lost > 0 then
  return { lost, mark, {}, 0 }
end

-- Acknowledging nothing counts as a write, and a server that is out of memory lets a script go on
-- once it has written: ends must be recorded then too.
redis.call('XACK', lane, group, '0-0')

-- The records come before the entries go. One that the server refuses (a stream at its last id, a
-- key of another type) takes back those before it, so that nothing was changed.
local undo = {}
local put_off, added = 0, {}
local function take_back(reply)
  for i = 2, put_off, 2 do
    redis.pcall('ZREM', KEYS[2], rest[2][i])
  end
  for _, id in ipairs(added) do
    redis.pcall('XDEL', lane, id)
  end
  for i = #undo, 1, -1 do
    redis.pcall(unpack(undo[i]))
  end
  return reply
end
local function add(number, ...)
  local id = redis.pcall('XADD', KEYS[number], ...)
  if type(id) == 'table' then
    return nil, id
  end
  undo[#undo + 1] = { 'XDEL', KEYS[number], id }
  return id
end

local kept = 0
if ARGV[12] ~= '' then
  for _, packed in ipairs(cmsgpack.unpack(ARGV[12])) do
    local fields = cmsgpack.unpack(packed)
    local id, refused = add(5, 'MAXLEN', '~', ARGV[10], '*', unpack(fields))
    if not id then
      return take_back(refused)
    end
    kept = kept + tonumber(fields[8])
  end
end
local deaths = {}
if #rest > 0 then
  local dead = rest[3]
  for i = 1, #dead, 3 do
    local id, refused = add(3, '*', unpack(cmsgpack.unpack(dead[i + 2])))
    if not id then
      return take_back(refused)
    end
    deaths[#deaths + 1] = { dead[i], dead[i + 1], string.match(id, '^%d+') }
  end
  local aside = rest[4]
  for i = 1, #aside, 2 do
    local id, refused = add(10 + tonumber(aside[i]), '*', 'job', aside[i + 1])
    if not id then
      return take_back(refused)
    end
  end
  local flows = rest[10]
  for i = 4, #flows, 3 do
    local key, name = KEYS[10 + tonumber(flows[i])], flows[i + 1]
    undo[#undo + 1] = { 'UNLINK', key }
    local made
    local fields = cmsgpack.unpack(flows[i + 2])
    for first = 1, #fields, 1000 do
      if type(made) ~= 'table' then
        made = redis.pcall('HSET', key, unpack(fields, first, math.min(first + 999, #fields)))
      end
    end
    for number = 1, 2 do
      if type(made) ~= 'table' then
        undo[#undo + 1] = { 'ZREM', KEYS[10 + tonumber(flows[number])], name }
        made = redis.pcall('ZADD', KEYS[10 + tonumber(flows[number])], 0, name)
      end
    end
    if type(made) == 'table' then
      return take_back(made)
    end
  end
  -- Lua's stack takes some thousands of values at once, hence the steps here and below.
  local retries = rest[2]
  for first = 1, #retries, 1000 do
    local last = math.min(first + 999, #retries)
    local added = redis.pcall('ZADD', KEYS[2], unpack(retries, first, last))
    if type(added) == 'table' then
      return take_back(added)
    end
    put_off = last
  end
  local again, at = rest[13], 1
  while at < #again do
    local last = at + tonumber(again[at])
    local id = redis.pcall('XADD', lane, '*', unpack(again, at + 1, last))
    if type(id) == 'table' then
      return take_back(id)
    end
    added[#added + 1] = id
    at = last + 1
  end
  if gates and #rest[12] > 0 then
    gates.use(group)
    gates.put_behind(rest[12])
  end
end

local last_ended, acknowledged = 15 + tonumber(ARGV[13]), 0
for first = 16, last_ended, 1000 do
  local last = math.min(first + 999, last_ended)
  acknowledged = acknowledged + redis.call('XACK', lane, group, unpack(ARGV, first, last))
end
if acknowledged < last_ended - 15 then
  -- The mark stands, yet an entry is pending with nobody: somebody ended it, or ends it twice here.
  -- The others are put back, from which those are told that left the stream as well.
  take_back()
  redis.call('HDEL', KEYS[8], mark_field)
  for i = 16, last_ended do
    redis.call('XCLAIM', lane, group, consumer, 0, ARGV[i], 'RETRYCOUNT', counts[ARGV[i]] or 1,
      'FORCE', 'JUSTID')
  end
  return false
end
for first = 16, last_ended, 1000 do
  redis.call('XDEL', lane, unpack(ARGV, first, math.min(first + 999, last_ended)))
end
for i = last_ended + 1, #ARGV do
  local id = ARGV[i]
  redis.call('XCLAIM', lane, group, rest[8][4], 0, id, 'IDLE', rest[8][3],
    'RETRYCOUNT', (counts[id] or 1) - 1, 'JUSTID')
end
if #ARGV > last_ended then
  redis.call('HDEL', KEYS[8], mark_field)
  mark = ''
elseif mark == '' then
  -- Unlike any before it: no consumer uses a number twice.
  mark = ARGV[3] .. ':' .. ARGV[4]
  redis.call('HSET', KEYS[8], mark_field, mark)
end
redis.call('HSET', KEYS[8], ARGV[3], ARGV[4])
if gates then
  -- Nothing is taken back from here on.
  pcall(gates.leave_all, gates.lane_of(rest[8][5]), rest[8][5], rest[11])
  gates.release_freed()
end
if #rest > 0 and #rest[10] > 0 then
  redis.pcall('HSET', KEYS[10 + tonumber(rest[10][3])], 'flows', 1)
end

-- From here on, what people look at: the jobs have their ends, whatever becomes of the counters.
if kept > 0 then
  redis.pcall('HINCRBY', KEYS[6], 'done_kept', kept)
end
if ARGV[11] ~= '' then
  local stats = cmsgpack.unpack(ARGV[11])
  local minute, ttl_s = string.match(ARGV[9], '(%d+):(%d+)')
  for i = 1, #stats, 2 do
    redis.pcall('HINCRBY', KEYS[6], stats[i], stats[i + 1])
    local counted = redis.pcall('HINCRBY', KEYS[7], minute .. ':' .. stats[i], stats[i + 1])
    if counted == tonumber(stats[i + 1]) then
      redis.pcall('EXPIRE', KEYS[7], ttl_s)
    end
  end
end
local minute, ttl_s
if #deaths > 0 then
  minute, ttl_s = string.match(ARGV[9], '(%d+):(%d+)')
end
for _, death in ipairs(deaths) do
  local print, sample, at = death[1], death[2], death[3]
  if redis.pcall('HEXISTS', KEYS[4], print .. ':n') == 0 then
    local groups = redis.pcall('HLEN', KEYS[4])
    if type(groups) == 'number' and groups >= 4 * tonumber(rest[8][2]) then
      print = 'other'
    end
    redis.pcall('HSETNX', KEYS[4], print .. ':first', at)
    redis.pcall('HSETNX', KEYS[4], print .. ':sample', sample)
  end
  redis.pcall('HINCRBY', KEYS[4], print .. ':n', 1)
  redis.pcall('HSET', KEYS[4], print .. ':last', at)
  -- By the quarter of an hour, so that many groups take few fields.
  local died = (minute - minute % 15) .. ':deaths:' .. print
  if redis.pcall('HINCRBY', KEYS[7], died, 1) == 1 then
    redis.pcall('EXPIRE', KEYS[7], ttl_s)
  end
end
if #rest > 0 then
  for _, event in ipairs(rest[5]) do
    redis.pcall('XADD', KEYS[9], 'MAXLEN', '~', rest[8][1], '*', 'event', event)
  end
  local replies = rest[6]
  for i = 1, #replies, 2 do
    redis.pcall('XADD', KEYS[10 + tonumber(replies[i])], '*', unpack(cmsgpack.unpack(replies[i + 1])))
  end
  for first = 1, #rest[7], 1000 do
    redis.pcall('HDEL', KEYS[10], unpack(rest[7], first, math.min(first + 999, #rest[7])))
  end
  for i = 2, #rest[9] do
    redis.pcall('HDEL', KEYS[10 + tonumber(rest[9][1])], rest[9][i])
  end
  local back = rest[14] or {}
  for i = 1, #back, 3 do
    local operation = KEYS[10 + tonumber(back[i])]
    if redis.pcall('HEXISTS', operation, ':moved') == 1 then
      redis.pcall('HINCRBY', operation, ':' .. back[i + 1], 1)
      redis.pcall('HDEL', operation, back[i + 2])
    end
  end
end
if gates then
  local handed = gates.deliver(gates.lane_of(rest[8][5]), group, consumer, tonumber(rest[8][6]))
  return { lost, mark, handed, gates.moved() }
end
return { lost, mark }
