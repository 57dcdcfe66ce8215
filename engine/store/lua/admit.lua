-- admit: decide which leased jobs of one stream may start; those that must wait leave their stream.
--
-- needs: gates, claims
--
-- KEYS[1]   stream     a lane's stream, or its stream of jobs that were let through
-- KEYS[2…]  the 18 keys of `gates`
-- ARGV[1]   group
-- ARGV[2]   consumer   who holds the entries
-- ARGV[3]   name       the stream's name: <lane> or <lane>:ready
-- ARGV[4]   window_ms  how long an id is remembered; 0 for not at all
-- ARGV[5]   line_max   most jobs that may wait behind one key
-- ARGV[6]   look_max   most entries of the lane whose keys are noted in one call
-- ARGV[7]   plain      packed: entry, key, … of jobs that lie in their lane, were delivered once, and
--                      ask for nothing but the turn of their key
-- ARGV[8…]  packed questions: entry, deliveries, ticket, key, id of the job, unique value, its
--           mode, ms, longest ms, 1 if a debounced job's time has come, the producer's id, hash of
--           the body, limits
--
-- Returns a letter for each of the plain ones, in one text, and then for each question a list: run;
-- parked; full; lost, where the consumer does not hold it; again, where the lane must be noted
-- further first or enough was read; duplicate and of which job; replaced and by which; conflict;
-- wait and until when, with the id of a job that this one replaces. The letters are the first ones.
local stream, group, consumer, name = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local window_ms, line_max, look_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lane = gates.lane_of(name)
local name_of_lane = string.match(name, '^[^:]+')
local is_lane = not string.find(name, ':', 1, true)
-- What one call reads of entries: copying a MB takes the server some ms.
local BYTES_MAX = 262144
local PARKED_BYTES = 4096 -- at least, for each job that is parked: it takes some ten µs
local bytes_left = BYTES_MAX
local aside = {} -- entries that this call has taken out of the stream
local deliveries = {} -- of entries that the consumer holds, as far as was asked

local function place_of(entry)
  return name .. '/' .. entry
end

local function value_of(fields, wanted)
  for i = 1, #fields, 2 do
    if fields[i] == wanted then
      return fields[i + 1]
    end
  end
end

-- A job that leaves its stream keeps its id, its age and its place in the order.
local function with_ticket(fields, ticket, entry)
  for i = 1, #fields, 2 do
    if fields[i] == '_engine' then
      if not string.find(fields[i + 1], '"ticket":"', 1, true) then
        fields[i + 1] = '{"ticket":"' .. ticket .. '",' .. string.sub(fields[i + 1], 2)
      end
      return fields
    end
  end
  local id = value_of(fields, 'id') or string.sub(name, 1, 1) .. '-' .. entry
  fields[#fields + 1] = '_engine'
  fields[#fields + 1] = '{"id":' .. cjson.encode(id) .. ',"enqueued_ms":'
    .. string.match(entry, '^%d+') .. ',"ticket":"' .. ticket .. '"}'
  return fields
end

local function set_aside(entry, fields, line, ticket, job)
  gates.park(lane, line, ticket, job, with_ticket(fields, ticket, entry))
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
  gates.forget(place_of(entry))
  aside[entry] = true
  bytes_left = bytes_left - PARKED_BYTES
end

local function count_bytes(fields)
  for i = 2, #fields, 2 do
    bytes_left = bytes_left - #fields[i]
  end
end

local function is_usable(key)
  return key and #key > 0 and #key <= 512 and not string.find(key, '[%z\1-\32\127]')
end

local plain_keys = {} -- entries of the plain ones
-- Turns of the lane's keys as this script has read or given them, and what is still to be written.
local turns, new_turns, new_notes = {}, {}, {}

local function turn_of(key)
  if turns[key] == nil then
    turns[key] = gates.holder(lane, key)
  end
  return turns[key]
end

local function give_turn(entry, key, ticket, is_plain)
  turns[key] = ticket
  new_turns[#new_turns + 1], new_turns[#new_turns + 2] = key, ticket
  -- Of one that asked for a unique value before, more may be noted.
  if is_plain or not gates.noted(place_of(entry)) then
    new_notes[#new_notes + 1] = place_of(entry)
    new_notes[#new_notes + 1] = gates.plain_note(key, ticket)
  end
end

local function write_turns()
  gates.write_turns(lane, new_turns, new_notes)
  turns, new_turns, new_notes = {}, {}, {}
end

-- Whether it is a job's turn, which it takes where nobody has it; with a note of that.
local function has_turn(entry, key, ticket, is_plain)
  local holder = turn_of(key)
  if not holder then
    give_turn(entry, key, ticket, is_plain)
    return true
  elseif holder == ticket then
    return true
  elseif string.sub(holder, 1, 1) ~= '!' then
    return false
  end
  local has = gates.turn(lane, key, ticket)
  turns[key] = nil
  if has then
    give_turn(entry, key, ticket, is_plain)
  end
  return has
end

local counts = {} -- of jobs behind a key, where this script has counted them
local function has_room(key)
  counts[key] = counts[key] or gates.parked_count(lane, 'k' .. key)
  return counts[key] < line_max
end

local function put_behind_key(entry, fields, key, ticket)
  set_aside(entry, fields, 'k' .. key, ticket, { key = key, unique = '', id = '', limits = '' })
  counts[key] = counts[key] + 1
end

local function body_of(entry)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  if found then
    count_bytes(found[2])
    return found[2]
  end
end

-- Note a key in the order of its lane. The body is read where nobody has asked.
local function note_key(entry, key, fields, is_plain)
  local ticket = gates.ticket_of(entry)
  if has_turn(entry, key, ticket, is_plain) or not has_room(key) then
    return
  end
  fields = fields or body_of(entry)
  if fields then
    put_behind_key(entry, fields, key, ticket)
  end
end

local function key_in(fields)
  local key, meta = value_of(fields, 'key'), value_of(fields, '_engine')
  if is_usable(key) and #fields <= 256
    and not (meta and string.find(meta, '"ticket":"', 1, true)) then
    return key
  end
end

-- Bodies of entries that nobody asks for here, from one of the pending rows on.
local bodies = {}
local function read_bodies(rows, from, asked, most)
  local last = from
  while last < #rows and last - from + 1 < most and not asked[rows[last + 1][1]] do
    last = last + 1
  end
  for i = from, last do
    bodies[rows[i][1]] = false
  end
  local found = redis.call('XRANGE', stream, rows[from][1], rows[last][1], 'COUNT', last - from + 1)
  for _, row in ipairs(found) do
    count_bytes(row[2])
    bodies[row[1]] = row[2]
  end
end

-- Keys are noted in the order of the lane, whoever was given the entries, and whoever asks first. What
-- comes before a delivered entry was delivered too, so the pending list tells of all of them.
-- Returns up to where, if there may be more.
local function note_keys(last, asked, count)
  local from, looks = gates.noted_up_to(lane), look_max
  local rows_max = count + 4 * look_max
  local rows = redis.call('XPENDING', stream, group, from and '(' .. from or '-', last, rows_max)
  local noted, is_more = nil, #rows == rows_max
  for i, row in ipairs(rows) do
    local entry = row[1]
    local key, fields = asked[entry], nil
    if not key then
      if bodies[entry] == nil then
        -- The first few tell how large the others may be.
        local seen = look_max - looks
        local fit = seen == 0 and 4 or math.floor(bytes_left * seen / (BYTES_MAX - bytes_left))
        read_bodies(rows, i, asked, math.max(1, math.min(fit, looks)))
      end
      looks, fields = looks - 1, bodies[entry]
      key = fields and key_in(fields)
    end
    if key then
      note_key(entry, key, fields, plain_keys[entry])
    end
    deliveries[entry] = row[2] == consumer and row[4]
    noted = entry
    if i < #rows and (bytes_left <= 0 or looks == 0 and not asked[rows[i + 1][1]]) then
      is_more = true
      break
    end
  end
  if noted then
    gates.note_up_to(lane, noted)
  end
  bytes_left = math.max(bytes_left, 1)
  return is_more and gates.ticket_of(noted or last)
end

local function answer(entry, ask, held)
  local ticket = ask[3] ~= '' and ask[3] or gates.ticket_of(entry)
  local job = { key = ask[4], unique = ask[6], id = ask[5], limits = ask[13] }
  if ask[11] ~= '' and window_ms > 0 then
    local before = gates.known_id(ask[11], ask[12], name_of_lane .. '/' .. ticket, window_ms)
    if before then
      return { before, ask[11] }
    end
  end
  -- A throttled job that was let through before its engine died has taken its span already.
  local has_claimed = held and held.unique == job.unique and ask[7] == 'throttle'
  if job.unique ~= '' and not has_claimed then
    local word, detail, other = gates.claim(job.unique, job.id, ticket, ask[7], tonumber(ask[8]),
      tonumber(ask[9]), ask[10] == '1')
    if word then
      return { word, detail, other or '' }
    end
  end
  local line
  if job.key ~= '' and not gates.turn(lane, job.key, ticket) then
    line = 'k' .. job.key
    if gates.parked_count(lane, line) >= line_max then
      return { 'full' }
    end
  else
    local shut = gates.shut_limit(lane, ticket, job.limits)
    line = shut and 'l' .. shut
  end
  if line then
    local found = redis.call('XRANGE', stream, entry, entry)[1]
    if not found then
      return { 'lost' }
    end
    count_bytes(found[2])
    set_aside(entry, found[2], line, ticket, job)
    return { 'parked' }
  end
  if job.key ~= '' or job.limits ~= '' then
    gates.admit(place_of(entry), job, ticket)
  elseif job.unique ~= '' then
    -- It may ask for a turn and for places later: its time had not come yet.
    local held = gates.noted(place_of(entry)) or { key = '', ticket = ticket, limits = '' }
    held.unique, held.id = job.unique, job.id
    gates.note(place_of(entry), 'r', held, held.ticket)
  end
  return { 'run' }
end

-- Delivery counts of entries that the consumer holds, where they are not known yet.
local function look_up(entries)
  local first, last, lowest, highest
  for _, entry in ipairs(entries) do
    if deliveries[entry] == nil and not aside[entry] then
      local ticket = gates.ticket_of(entry)
      if not lowest or ticket < lowest then
        first, lowest = entry, ticket
      end
      if not highest or ticket > highest then
        last, highest = entry, ticket
      end
    end
  end
  if first then
    -- Reading an entry of a range costs a quarter of asking for one alone.
    local rows = redis.call('XPENDING', stream, group, first, last, 4 * #entries, consumer)
    for _, row in ipairs(rows) do
      deliveries[row[1]] = row[4]
    end
  end
end

local function deliveries_of(entry)
  if deliveries[entry] == nil then
    local row = redis.call('XPENDING', stream, group, entry, entry, 1, consumer)[1]
    deliveries[entry] = row and row[4] or false
  end
  return deliveries[entry]
end

local function answer_plain(entry, key, noted_to)
  if aside[entry] then
    return 'p'
  elseif deliveries_of(entry) ~= 1 then
    return 'l'
  end
  local ticket = gates.ticket_of(entry)
  if bytes_left <= 0 or (noted_to and ticket > noted_to) then
    return 'a'
  elseif has_turn(entry, key, ticket, true) then
    return 'r'
  elseif not has_room(key) then
    return 'f'
  end
  local fields = body_of(entry)
  if not fields then
    return 'l'
  end
  put_behind_key(entry, fields, key, ticket)
  return 'p'
end

-- Acknowledging nothing counts as a write, and a server that is out of memory lets a script go on
-- once it has written: its backlog must be worked off then too.
redis.call('XACK', stream, group, '0-0')
gates.use(group)
local plain, asks, entries = cmsgpack.unpack(ARGV[7]), {}, {}
-- Keys of entries that are to be noted in the order of their lane.
local asked, last_asked, last_ticket, keys = {}, nil, '', {}
local function is_new(entry, key)
  local ticket = gates.ticket_of(entry)
  asked[entry], keys[#keys + 1] = key, key
  if ticket > last_ticket then
    last_asked, last_ticket = entry, ticket
  end
end
for i = 1, #plain, 2 do
  entries[#entries + 1] = plain[i]
  plain_keys[plain[i]] = true
  is_new(plain[i], plain[i + 1])
end
for i = 8, #ARGV do
  local ask = cmsgpack.unpack(ARGV[i])
  asks[#asks + 1], entries[#entries + 1] = ask, ask[1]
  if is_lane and ask[4] ~= '' and ask[3] == '' then
    is_new(ask[1], ask[4])
  end
end
for n, holder in ipairs(gates.each_field('HMGET', gates.busy_of(lane), keys)) do
  turns[keys[n]] = holder
end
local noted_to = last_asked and note_keys(last_asked, asked, #keys)
look_up(entries)

local letters, answers = {}, {}
for i = 1, #plain, 2 do
  letters[#letters + 1] = answer_plain(plain[i], plain[i + 1], noted_to)
end
write_turns()
for i, ask in ipairs(asks) do
  local entry = ask[1]
  local held = not aside[entry] and gates.noted(place_of(entry))
  if aside[entry] then
    answers[i] = { 'parked' }
  elseif deliveries_of(entry) ~= tonumber(ask[2]) then
    answers[i] = { 'lost' }
  elseif held and held.stage == 'a' then
    answers[i] = { 'run' }
  elseif bytes_left <= 0
    or (noted_to and ask[4] ~= '' and ask[3] == '' and gates.ticket_of(entry) > noted_to) then
    answers[i] = { 'again' }
  else
    answers[i] = answer(entry, ask, held)
  end
end
return { table.concat(letters), answers }
