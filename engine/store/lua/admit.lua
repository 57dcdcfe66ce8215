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
-- ARGV[7…]  packed questions: entry, deliveries, ticket, key, id of the job, unique value, its
--           mode, ms, longest ms, 1 if a debounced job's time has come, the producer's id, hash of
--           the body, limits
--
-- Returns for each question a list: run; parked; full; lost, where the consumer does not hold it;
-- again, where the lane must be noted further first or enough was read; duplicate and of which job;
-- replaced and by which; conflict; wait and until when, with the id of a job that this one replaces.
local stream, group, consumer, name = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local window_ms, line_max, look_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lane = gates.lane_of(name)
local name_of_lane = string.match(name, '^[^:]+')
local is_lane = not string.find(name, ':', 1, true)
-- What one call reads of entries: copying a MB takes the server some ms.
local BYTES_MAX = 262144
local bytes_left = BYTES_MAX
local aside = {} -- entries that this call has taken out of the stream

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
end

local function count_bytes(fields)
  for i = 2, #fields, 2 do
    bytes_left = bytes_left - #fields[i]
  end
end

local function is_usable(key)
  return key and #key > 0 and #key <= 512 and not string.find(key, '[%z\1-\32\127]')
end

local function note_key(entry, fields)
  local key, meta = value_of(fields, 'key'), value_of(fields, '_engine')
  if is_usable(key) and #fields <= 256
    and not (meta and string.find(meta, '"ticket":"', 1, true)) then
    local ticket, job = gates.ticket_of(entry), { key = key, unique = '', id = '', limits = '' }
    if gates.turn(lane, key, ticket) then
      if not gates.noted(place_of(entry)) then
        gates.note(place_of(entry), 'r', job, ticket)
      end
    elseif gates.parked_count(lane, 'k' .. key) < line_max then
      set_aside(entry, fields, 'k' .. key, ticket, job)
    end
  end
end

-- Keys are noted in the order of the lane, whoever was given the entries, and whoever asks first.
-- Returns up to where, if there may be more.
local function note_keys(last)
  local from, count = gates.noted_up_to(lane), 0
  local is_more = true
  while is_more and count < look_max and bytes_left > 0 do
    -- The first few tell how large the others may be.
    local fit = count == 0 and 4 or math.floor(bytes_left * count / (BYTES_MAX - bytes_left))
    local step = math.max(1, math.min(fit, look_max - count))
    local found = redis.call('XRANGE', stream, from and '(' .. from or '-', last, 'COUNT', step)
    for _, row in ipairs(found) do
      from = row[1]
      count_bytes(row[2])
      note_key(row[1], row[2])
    end
    count = count + #found
    is_more = #found == step
  end
  if count > 0 then
    gates.note_up_to(lane, from)
  end
  bytes_left = math.max(bytes_left, 1)
  return is_more and gates.ticket_of(from)
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

-- Acknowledging nothing counts as a write, and a server that is out of memory lets a script go on
-- once it has written: its backlog must be worked off then too.
redis.call('XACK', stream, group, '0-0')
gates.use(group)
local asks, last_keyed, last_ticket = {}, nil, ''
local first, last, first_ticket, highest_ticket
for i = 7, #ARGV do
  local ask = cmsgpack.unpack(ARGV[i])
  asks[#asks + 1] = ask
  local ticket = gates.ticket_of(ask[1])
  if not first or ticket < first_ticket then
    first, first_ticket = ask[1], ticket
  end
  if not last or ticket > highest_ticket then
    last, highest_ticket = ask[1], ticket
  end
  if is_lane and ask[4] ~= '' and ask[3] == '' and ticket > last_ticket then
    last_keyed, last_ticket = ask[1], ticket
  end
end
-- Reading an entry of a range costs a quarter of asking for one alone.
local deliveries = {}
if first then
  local rows = redis.call('XPENDING', stream, group, first, last, 4 * #asks, consumer)
  for _, row in ipairs(rows) do
    deliveries[row[1]] = row[4]
  end
end
local noted_to = last_keyed and note_keys(last_keyed)

local answers = {}
for i, ask in ipairs(asks) do
  local entry = ask[1]
  local held = not aside[entry] and gates.noted(place_of(entry))
  if not deliveries[entry] and not aside[entry] then
    local row = redis.call('XPENDING', stream, group, entry, entry, 1, consumer)[1]
    deliveries[entry] = row and row[4]
  end
  if aside[entry] then
    answers[i] = { 'parked' }
  elseif deliveries[entry] ~= tonumber(ask[2]) then
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
return answers
