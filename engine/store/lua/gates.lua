-- gates: rules that decide whether a job may start: order by key, limits, uniqueness.
--
-- Stands before scripts that admit jobs or let them go; it takes the last 18 keys of each.
--
-- KEYS[…]  busy       hashes, critical to low: ordering key -> ticket of the job whose turn it is,
--                     with a ! before it while its death keeps the key
-- KEYS[…]  parked     zsets, critical to low: jobs that wait behind a gate, all with score 0;
--                     member = line \0 ticket \0 packed head and fields, where a line is k<key> or
--                     l<limit>, or l<limit> \2 <share> for a limit that shares itself out
-- KEYS[…]  ready      streams, critical to low: jobs that have been let through
-- KEYS[…]  admitted   hash: stream/entry -> what the job holds, packed; @<lane> -> the last
--                     entry of the lane whose key was noted
-- KEYS[…]  limits     hash: u:<limit> jobs that hold a place, t:<limit> tokens and when they were
--                     counted, x:<limit> closed until, v:<limit>… shares, turn
-- KEYS[…]  due        zset: limit by the ms at which it may let somebody through
-- KEYS[…]  unique     hash: u<value> or i<id> -> who took it, until when, since when
-- KEYS[…]  ends       zset: fields of `unique` by the ms at which they end
-- KEYS[…]  control    hash: limit:<limit> and its rule, on_dead, gates
--
-- A ticket is the place in a lane's order: the entry id with which the job first came, padded.
-- A head tells what a parked job asks for: its key, its unique value, its id, and its limits.
--
-- Returns nothing by itself.
local base = #KEYS - 18
local busy_keys = { KEYS[base + 1], KEYS[base + 2], KEYS[base + 3], KEYS[base + 4] }
local parked_keys = { KEYS[base + 5], KEYS[base + 6], KEYS[base + 7], KEYS[base + 8] }
local ready_keys = { KEYS[base + 9], KEYS[base + 10], KEYS[base + 11], KEYS[base + 12] }
local admitted, limits_key, due_key = KEYS[base + 13], KEYS[base + 14], KEYS[base + 15]
local unique_key, ends_key, control_key = KEYS[base + 16], KEYS[base + 17], KEYS[base + 18]
local LANE_NAMES = { 'critical', 'high', 'normal', 'low' }
local LANE_NUMBERS = { critical = 1, high = 2, normal = 3, low = 4 }
local gates = {}
-- Lanes below the strict one, by the default weights 16:4:1.
local WEIGHTED = { [0] = 4, 2, 2, 2, 2, 3, 2, 2, 2, 2, 3, 2, 2, 2, 2, 3, 2, 2, 2, 2, 3 }
gates.FAR = 9e15 -- for limits that no time opens, but the end of a job that holds a place
local BYTES_MAX = 262144 -- that one script lets through: copying a MB takes the server some ms
local bytes_moved = 0
local SHARES_MAX = 64 -- of a limit that are looked at in one script, at some µs each
local shares_max = SHARES_MAX

local clock = redis.call('TIME')
gates.now = clock[1] * 1000 + math.floor(clock[2] / 1000)
gates.released = {}
gates.freed = {} -- limits of which places were given back, in that order, and how many of each

-- The packing of engine/wire/packing.py, which both sides read. What stands before a text depends on
-- its length alone.
local before_text = setmetatable({}, {
  __index = function(known, length)
    known[length] = '\219' .. struct.pack('>I4', length)
    return known[length]
  end,
})

function gates.pack(items)
  local parts = { '\221' .. struct.pack('>I4', #items) }
  for i, item in ipairs(items) do
    parts[2 * i], parts[2 * i + 1] = before_text[#item], item
  end
  return table.concat(parts)
end

local tickets = {}
function gates.ticket_of(entry)
  local ticket = tickets[entry]
  if not ticket then
    local ms, number = string.match(entry, '^(%d+)-(%d+)$')
    ticket = string.rep('0', 15 - #ms) .. ms .. '-' .. string.rep('0', 10 - #number) .. number
    tickets[entry] = ticket
  end
  return ticket
end

function gates.lane_of(stream)
  return LANE_NUMBERS[string.match(stream, '^[^:]+')]
end

-- One command over many fields of a hash, or fields and values, some hundred at a time: Lua's stack
-- has an end. Returns what the calls returned, if it was lists, as one.
function gates.each_field(command, key, fields)
  local found = {}
  for first = 1, #fields, 500 do
    local reply = redis.call(command, key, unpack(fields, first, math.min(first + 499, #fields)))
    if type(reply) == 'table' then
      for i = 1, #reply do
        found[#found + 1] = reply[i]
      end
    end
  end
  return found
end

-- Streams of jobs that were let through have the lanes' group; made when first used.
local has_ready = {}
local function let_through(lane, fields)
  local ready = ready_keys[lane]
  if not has_ready[lane] and redis.call('EXISTS', ready) == 0 then
    redis.call('XGROUP', 'CREATE', ready, 'engine', '0', 'MKSTREAM')
  end
  has_ready[lane] = true
  for i = 2, #fields, 2 do
    bytes_moved = bytes_moved + #fields[i]
  end
  local entry = redis.call('XADD', ready, '*', unpack(fields))
  gates.released[lane] = (gates.released[lane] or 0) + 1
  return LANE_NAMES[lane] .. ':ready/' .. entry
end

-- Jobs that this script has let through.
function gates.moved()
  local count = 0
  for _, moved in pairs(gates.released) do
    count = count + moved
  end
  return count
end

-- Lines.

local function first_of(lane, line)
  local from, to = '[' .. line .. '\0', '(' .. line .. '\1'
  local member = redis.call('ZRANGEBYLEX', parked_keys[lane], from, to, 'LIMIT', 0, 1)[1]
  if member then
    return member, string.match(member, '^[^%z]*', #line + 2)
  end
end

-- What a member holds. One that nobody of ours wrote is let through as it is, to be buried.
local function contents(member, line, ticket)
  local good, items = pcall(cmsgpack.unpack, string.sub(member, #line + #ticket + 3))
  if good and type(items) == 'table' and #items > 2 and #items % 2 == 1 then
    local key, unique, id, limits = string.match(items[1], '^(.-)%z(.-)%z(.-)%z(.*)$')
    if key then
      return { key = key, unique = unique, id = id, limits = limits }, { unpack(items, 2) }
    end
  end
  return { key = '', unique = '', id = '', limits = '' }, { 'packed', member }
end

function gates.head(job)
  return table.concat({ job.key, job.unique, job.id, job.limits }, '\0')
end

function gates.park(lane, line, ticket, job, fields)
  local member = line .. '\0' .. ticket .. '\0' .. gates.pack({ gates.head(job), unpack(fields) })
  redis.call('ZADD', parked_keys[lane], 0, member)
end

-- Jobs whose handlers met a limit: number of the lane, limit, member, …
function gates.put_behind(flat)
  for i = 1, #flat, 3 do
    redis.call('ZADD', parked_keys[tonumber(flat[i])], 0, flat[i + 2])
    local open, at_ms = gates.limit_is_open(flat[i + 1])
    gates.wake(flat[i + 1], open and gates.now or at_ms or gates.FAR)
  end
end

function gates.parked_count(lane, line)
  return redis.call('ZLEXCOUNT', parked_keys[lane], '[' .. line .. '\0', '(' .. line .. '\1')
end

-- Order by key.

function gates.busy_of(lane)
  return busy_keys[lane]
end

function gates.holder(lane, key)
  return redis.call('HGET', busy_keys[lane], key)
end

-- Turns that were given, as key, ticket, …, and the notes of them.
function gates.write_turns(lane, turns, notes)
  gates.each_field('HSET', busy_keys[lane], turns)
  gates.each_field('HSET', admitted, notes)
end

-- Whether it is this ticket's turn; takes the turn where nobody has it.
function gates.turn(lane, key, ticket)
  local holder = redis.call('HGET', busy_keys[lane], key)
  if holder and string.sub(holder, 1, 1) == '!' and holder ~= '!' .. ticket
    and redis.call('HGET', control_key, 'on_dead') ~= 'block' then
    -- Dead jobs keep their keys no more: whoever waits longest comes first.
    local _, first = first_of(lane, 'k' .. key)
    if first and first < ticket then
      gates.pass_on(lane, key, string.sub(holder, 2), false)
      return false
    end
    holder = nil
  end
  if not holder or holder == '!' .. ticket then
    redis.call('HSET', busy_keys[lane], key, ticket)
    return true
  end
  return holder == ticket
end

-- Whether a dead job keeps its key.
function gates.is_blocked(lane, key, ticket)
  return redis.call('HGET', busy_keys[lane], key) == '!' .. ticket
end

-- The turn goes to the next of a key, if this ticket has it; `holder` is who has, where that is known.
function gates.pass_on(lane, key, ticket, is_dead, holder)
  holder = holder or redis.call('HGET', busy_keys[lane], key)
  if holder ~= ticket and holder ~= '!' .. ticket then
    return
  end
  if is_dead and redis.call('HGET', control_key, 'on_dead') == 'block' then
    redis.call('HSET', busy_keys[lane], key, '!' .. ticket)
    return
  end
  local line = 'k' .. key
  local member, next_ticket = first_of(lane, line)
  if not member then
    redis.call('HDEL', busy_keys[lane], key)
    return
  end
  -- What this job is limited by is asked for when an engine has it: see `admit`. Whatever is wrong
  -- with it, and whoever trims it, its end passes the turn on.
  local job, fields = contents(member, line, next_ticket)
  job.key = key
  redis.call('HSET', busy_keys[lane], key, next_ticket)
  redis.call('ZREM', parked_keys[lane], member)
  gates.note(let_through(lane, fields), 'r', job, next_ticket)
end

-- Limits.

local rules = {}
local function rule_of(name)
  if rules[name] == nil then
    -- A group's limit is told by the group's name: tenant=acme goes by the rule of tenant=*.
    local text = redis.call('HGET', control_key, 'limit:' .. name)
      or redis.call('HGET', control_key, 'limit:' .. string.gsub(name, '=.*', '=*'))
    local rate, per_ms, burst, places = string.match(text or '', '^(%S+) (%d+) (%d+) (%d+)')
    rate, per_ms = tonumber(rate or ''), tonumber(per_ms or '')
    -- What makes no sense bounds nothing, as engines read it too.
    rules[name] = rate and rate >= 0 and rate < 1e9 and per_ms > 0 and {
      rate = rate,
      per_ms = per_ms,
      burst = math.max(1, tonumber(burst)),
      places = tonumber(places),
    } or false
  end
  return rules[name]
end

local function tokens_of(name, rule)
  local state = redis.call('HGET', limits_key, 't:' .. name)
  local tokens, at = string.match(state or '', '^(%S+) (%d+)$')
  if not tokens then
    return rule.burst
  end
  if tonumber(at) > gates.now then
    -- The clock was set back: count from now on.
    redis.call('HSET', limits_key, 't:' .. name, tokens .. ' ' .. gates.now)
  end
  local gained = math.max(0, gates.now - tonumber(at)) * rule.rate / rule.per_ms
  return math.min(rule.burst, tonumber(tokens) + gained)
end

-- Until when nobody is let through, or nothing.
function gates.shut_until(name)
  local closed = tonumber(redis.call('HGET', limits_key, 'x:' .. name) or '0')
  if closed > gates.now then
    return closed
  elseif closed > 0 then
    redis.call('HDEL', limits_key, 'x:' .. name)
  end
end

-- Whether a limit lets a job through; if not, also when it may, where time alone can tell.
function gates.limit_is_open(name)
  local closed = gates.shut_until(name)
  if closed then
    return false, closed
  end
  local rule = rule_of(name)
  if rule and rule.rate > 0 then
    local tokens = tokens_of(name, rule)
    if tokens < 1 then
      return false, gates.now + math.max(1, math.ceil((1 - tokens) * rule.per_ms / rule.rate))
    end
  end
  if rule and rule.places > 0
    and tonumber(redis.call('HGET', limits_key, 'u:' .. name) or '0') >= rule.places then
    return false
  end
  return true
end

function gates.take_token(name)
  local rule = rule_of(name)
  if rule and rule.rate > 0 then
    local left = string.format('%.3f %d', tokens_of(name, rule) - 1, gates.now)
    redis.call('HSET', limits_key, 't:' .. name, left)
  end
end

function gates.take_place(name)
  redis.call('HINCRBY', limits_key, 'u:' .. name, 1)
end

local function give_back(name)
  if redis.call('HINCRBY', limits_key, 'u:' .. name, -1) <= 0 then
    redis.call('HDEL', limits_key, 'u:' .. name)
  end
end

function gates.wake(name, at_ms)
  local before = redis.call('ZSCORE', due_key, name)
  if not before or tonumber(before) > at_ms then
    redis.call('ZADD', due_key, at_ms, name)
  end
end

-- A limit as a job asks for it: its name, and after \2 the share of it that the job goes by.
local function each_limit(limits)
  return string.gmatch(limits, '[^ ]+')
end

local function name_of(limit)
  return (string.gsub(limit, '\2.*', ''))
end

-- Limits without one of them.
function gates.without(limits, unwanted)
  local left = {}
  for limit in each_limit(limits) do
    if name_of(limit) ~= unwanted then
      left[#left + 1] = limit
    end
  end
  return table.concat(left, ' ')
end

function gates.has_limit(limits, wanted)
  for limit in each_limit(limits) do
    if name_of(limit) == wanted then
      return true
    end
  end
  return false
end

-- Nobody is let through until then; a later moment stands.
function gates.shut(name, until_ms)
  if tonumber(redis.call('HGET', limits_key, 'x:' .. name) or '0') < until_ms then
    redis.call('HSET', limits_key, 'x:' .. name, until_ms)
  end
end

-- Whether somebody waits in a limit's line who comes before this ticket; a job of one share comes
-- after whoever waits in any.
function gates.waits_before(lane, limit, ticket)
  local name = name_of(limit)
  if name ~= limit then
    local from, to = '[l' .. name .. '\2', '(l' .. name .. '\3'
    return #redis.call('ZRANGEBYLEX', parked_keys[lane], from, to, 'LIMIT', 0, 1) > 0
  end
  local _, first = first_of(lane, 'l' .. limit)
  return first and first < ticket
end

-- The first limit that keeps a job back; `skip` is known to be open. A job does not overtake one
-- with an earlier ticket that waits in its line.
function gates.shut_limit(lane, ticket, limits, skip)
  for limit in each_limit(limits) do
    if limit ~= skip then
      local name = name_of(limit)
      local open, at_ms = gates.limit_is_open(name)
      if not open then
        gates.wake(name, at_ms or gates.FAR)
        return limit
      elseif gates.waits_before(lane, limit, ticket) then
        gates.wake(name, gates.now)
        return limit
      end
    end
  end
end

-- What a job holds, so that whoever ends it gives all of it back.

-- The note of a job that has its turn and asked for nothing else, and how it ends.
local PLAIN = '\221\0\0\0\7\219\0\0\0\1r'
local PLAIN_END = string.rep('\219\0\0\0\0', 4)

function gates.plain_note(key, ticket)
  return PLAIN .. before_text[#key] .. key .. before_text[#ticket] .. ticket .. PLAIN_END
end

function gates.note(place, stage, job, ticket)
  local note
  if stage == 'r' and job.unique == '' and job.id == '' and job.limits == '' then
    note = gates.plain_note(job.key, ticket)
  else
    note = gates.pack({ stage, job.key, ticket, job.unique, job.id, job.limits, job.paid or '' })
  end
  redis.call('HSET', admitted, place, note)
end

function gates.noted(place)
  local packed = redis.call('HGET', admitted, place)
  if packed then
    local items = cmsgpack.unpack(packed)
    return { stage = items[1], key = items[2], ticket = items[3], unique = items[4],
      id = items[5], limits = items[6], paid = items[7] or '' }
  end
end

function gates.forget(place)
  redis.call('HDEL', admitted, place)
end

-- Some of the entries that something is noted of, others with each call.
function gates.some_noted(count)
  local from = redis.call('HGET', limits_key, 'noted') or '0'
  local page = redis.call('HSCAN', admitted, from, 'COUNT', count)
  if page[1] == '0' then
    redis.call('HDEL', limits_key, 'noted')
  else
    redis.call('HSET', limits_key, 'noted', page[1])
  end
  local places = {}
  for i = 1, #page[2], 2 do
    if string.sub(page[2][i], 1, 1) ~= '@' then
      places[#places + 1] = page[2][i]
    end
  end
  return places
end

-- The last entry of a lane whose key was noted.
function gates.noted_up_to(lane)
  return redis.call('HGET', admitted, '@' .. LANE_NAMES[lane])
end

function gates.note_up_to(lane, entry)
  redis.call('HSET', admitted, '@' .. LANE_NAMES[lane], entry)
end

function gates.admit(place, job, ticket)
  for limit in each_limit(job.limits) do
    gates.take_token(name_of(limit))
    gates.take_place(name_of(limit))
  end
  job.paid = job.limits
  gates.note(place, 'a', job, ticket)
end

-- Lines of a limit's shares, with what each has had: a window of them where there are many, which
-- moves on with each script. Read once in a script, since each line costs two calls.
local windows = {}
local function window_of(lane, limit)
  local name = lane .. limit
  if not windows[name] then
    local line, cursor_field = 'l' .. limit, 'c:' .. LANE_NAMES[lane] .. ':' .. limit
    local cursor = redis.call('HGET', limits_key, cursor_field)
    local lines, from, wrapped = {}, '[' .. (cursor or line .. '\2'), not cursor
    while #lines < shares_max do
      local to = wrapped and cursor and '(' .. cursor or '(' .. line .. '\3'
      local member = redis.call('ZRANGEBYLEX', parked_keys[lane], from, to, 'LIMIT', 0, 1)[1]
      if member then
        local found = string.match(member, '^([^%z]+)%z')
        local had = tonumber(redis.call('HGET', limits_key, 'v:' .. string.sub(found, 2)) or '0')
        lines[#lines + 1] = { line = found, had = had }
        from = '[' .. found .. '\1'
      elseif wrapped then
        break
      else
        wrapped, from = true, '[' .. line .. '\2'
      end
    end
    if #lines == shares_max then
      redis.call('HSET', limits_key, cursor_field, lines[#lines].line .. '\1')
    elseif cursor then
      redis.call('HDEL', limits_key, cursor_field)
    end
    windows[name] = lines
  end
  return windows[name]
end

-- The first of a limit's line; or where it shares itself out, of the share that has had the least.
local function next_of_lane(lane, limit, is_stale)
  local line = 'l' .. limit
  local member, ticket = first_of(lane, line)
  if member then
    return line, member, ticket
  end
  local lines = window_of(lane, limit)
  while #lines > 0 do
    local best = 1
    for i = 2, #lines do
      if lines[i].had < lines[best].had then
        best = i
      end
    end
    member, ticket = first_of(lane, lines[best].line)
    if member then
      return lines[best].line, member, ticket, lines[best]
    end
    table.remove(lines, best)
    is_stale = true
  end
  windows[lane .. limit] = nil
  if is_stale then
    return next_of_lane(lane, limit)
  end
end

local function next_waiting(limit)
  local turn = redis.call('HINCRBY', limits_key, 'turn', 1)
  for _, lane in ipairs({ 1, WEIGHTED[turn % 21], 2, 3, 4 }) do
    local line, member, ticket, share = next_of_lane(lane, limit)
    if line then
      return lane, line, member, ticket, share
    end
  end
end

local function count_share(line, entry)
  local limit, share = string.match(line, '^l([^\2]+)\2(.+)$')
  if limit then
    local text = redis.call('HGET', control_key, 'limit:' .. limit) or ''
    local weight = tonumber(string.match(text .. ' ', ' ' .. string.gsub(share, '%W', '%%%0') .. '=(%d+) ') or '1')
    local field, all = 'v:' .. limit .. '\2' .. share, 'v:' .. limit
    local now = tonumber(redis.call('HGET', limits_key, all) or '0')
    local had = math.max(now, tonumber(redis.call('HGET', limits_key, field) or '0'))
    entry.had = had + 1 / math.max(1, weight)
    redis.call('HSET', limits_key, all, had, field, entry.had)
  end
end

-- Let jobs of one limit through while it is open; returns how many were moved, at most `most`.
function gates.release(name, most)
  local moved = 0
  -- Who lets a few through compares a few.
  shares_max = math.min(SHARES_MAX, 16 + 2 * most)
  for _ = 1, most do
    if bytes_moved > BYTES_MAX then
      gates.wake(name, gates.now)
      break
    end
    local lane, line, member, ticket, share = next_waiting(name)
    if not lane then
      redis.call('ZREM', due_key, name)
      break
    end
    local open, at_ms = gates.limit_is_open(name)
    if not open then
      redis.call('ZADD', due_key, at_ms or gates.FAR, name)
      break
    end
    local job, fields = contents(member, line, ticket)
    local shut = gates.shut_limit(lane, ticket, job.limits, string.sub(line, 2))
    redis.call('ZREM', parked_keys[lane], member)
    if shut then
      gates.park(lane, 'l' .. shut, ticket, job, fields)
    else
      gates.admit(let_through(lane, fields), job, ticket)
      count_share(line, share)
    end
    moved = moved + 1
  end
  if moved == most then
    gates.wake(name, gates.now)
  end
  return moved
end

-- Forget what says no more than nothing would: full buckets, shares that time has overtaken, ends of
-- closings. A queue may have had limits of very many groups.
function gates.forget_limits(count)
  local page = redis.call('HSCAN', limits_key, redis.call('HGET', limits_key, 'scan') or '0',
    'COUNT', count)
  for i = 1, #page[2], 2 do
    local field, value = page[2][i], page[2][i + 1]
    local kind, name = string.match(field, '^(%a):(.+)$')
    local is_over = false
    if kind == 't' then
      local rule = rule_of(name)
      is_over = not rule or rule.rate == 0 or tokens_of(name, rule) >= rule.burst
    elseif kind == 'x' then
      is_over = tonumber(value) <= gates.now
    elseif kind == 'v' and string.find(name, '\2', 1, true) then
      local all = redis.call('HGET', limits_key, 'v:' .. name_of(name))
      is_over = tonumber(value) <= tonumber(all or '0')
    end
    if is_over then
      redis.call('HDEL', limits_key, field)
    end
  end
  if page[1] == '0' then
    redis.call('HDEL', limits_key, 'scan')
  else
    redis.call('HSET', limits_key, 'scan', page[1])
  end
end

-- The end of an entry: `how` is free or dead where the job has ended, keep where it comes back and
-- keeps its turn, early where it gives its turn away and comes back later, back where the entry stays
-- for another engine: then the turn stays, and the places are asked for again.
function gates.leave(lane, place, how, key, ticket, unique, id)
  local held = gates.noted(place)
  if held then
    gates.forget(place)
    -- One that was early asked for no turn, and may have been given one in the order of its lane.
    key, ticket = held.key ~= '' and held.key or key, held.ticket
    unique = held.unique ~= '' and held.unique or unique
    id = held.id ~= '' and held.id or id
    if held.stage == 'a' then
      for limit in each_limit(held.limits) do
        give_back(name_of(limit))
        local name = name_of(limit)
        if not gates.freed[name] then
          gates.freed[#gates.freed + 1] = name
        end
        gates.freed[name] = (gates.freed[name] or 0) + 1
      end
    end
  end
  if how == 'back' then
    if held then
      held.limits, held.paid = '', ''
      gates.note(place, 'r', held, held.ticket)
    end
    return
  end
  if key ~= '' and ticket ~= '' and how ~= 'keep' then
    gates.pass_on(lane, key, ticket, how == 'dead')
  end
  if unique ~= '' and (how == 'free' or how == 'dead') then
    gates.disclaim(unique, id)
  end
end

-- Ends of many entries of a stream: id, how, key, ticket, unique value, job id, … Those of jobs that
-- asked for a turn and nothing else are dealt with together.
function gates.leave_all(lane, name, left)
  local places = {}
  for i = 1, #left, 6 do
    places[#places + 1] = name .. '/' .. left[i]
  end
  local plain, keys, noted = {}, {}, {}
  for n, note in ipairs(gates.each_field('HMGET', admitted, places)) do
    local i = 6 * n - 5
    if left[i + 1] == 'free' and left[i + 2] ~= '' and left[i + 3] ~= '' and left[i + 4] == ''
      and (not note or string.sub(note, -#PLAIN_END) == PLAIN_END) then
      keys[#keys + 1] = left[i + 2]
      plain[n] = #keys
      noted[#noted + 1] = note and places[n] or nil
    end
  end
  gates.each_field('HDEL', admitted, noted)
  local holders = gates.each_field('HMGET', busy_keys[lane], keys)
  local is_any_parked = #keys > 0 and redis.call('ZCARD', parked_keys[lane]) > 0
  local free = {}
  for n, place in ipairs(places) do
    local i = 6 * n - 5
    local key, ticket, holder = left[i + 2], left[i + 3], holders[plain[n]]
    -- Nothing is taken back here: what one entry left behind must not stop the others.
    if not plain[n] then
      pcall(gates.leave, lane, place, unpack(left, i + 1, i + 5))
    elseif holder == ticket and not is_any_parked then
      free[#free + 1] = key
    elseif holder then
      pcall(gates.pass_on, lane, key, ticket, false, holder)
    end
  end
  gates.each_field('HDEL', busy_keys[lane], free)
end

-- Places were given back: whoever waits for them goes on.
function gates.release_freed()
  for _, name in ipairs(gates.freed) do
    if redis.call('ZSCORE', due_key, name) then
      gates.release(name, gates.freed[name])
    end
  end
end

-- Queues that use none of this have no streams for jobs that were let through, and say so.
function gates.use(group)
  if redis.call('HEXISTS', control_key, 'gates') == 0 then
    redis.call('HSET', control_key, 'gates', '1')
    for _, ready in ipairs(ready_keys) do
      redis.pcall('XGROUP', 'CREATE', ready, group, '0', 'MKSTREAM')
    end
  end
end

-- Hand jobs of a lane that were let through just now to the engine that made room for them: id,
-- fields, and 1 for each that has its turn. Others may have come before these.
function gates.deliver(lane, group, consumer, count)
  local most = math.min(count, gates.released[lane] or 0)
  if most <= 0 then
    return {}
  end
  local found = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS',
    ready_keys[lane], '>')
  local rows = type(found) == 'table' and found[1] and found[1][2] or {}
  for _, row in ipairs(rows) do
    row[3] = redis.call('HEXISTS', admitted, LANE_NAMES[lane] .. ':ready/' .. row[1])
  end
  return rows
end
