-- take_back: make jobs of an operation dead letters again, as they were, if they have not started.
--
-- needs: groups, operation
--
-- KEYS[1]   dead   stream of dead jobs
-- KEYS[2-6] those of `groups` and `operation`
-- KEYS[7]   place  where they are now: the delayed set, or the stream of a lane
-- ARGV[1-3] those of `operation`
-- ARGV[4]   group  the consumer group of a lane; empty for the delayed set
-- ARGV[5…]  entry ids of the dead letters that they were; each with the entry id that it has in
--           its lane after it, if it is in one
--
-- Returns whether the operation is the caller's, and how many were taken back. Jobs that are not
-- there, that were delivered, or that somebody has changed since, are left alone.
if not operation.is_driven() then
  return { 0, 0 }
end

local function is_after(id, other)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(number) > tonumber(other_number))
end

-- What is behind the last delivered entry of a lane was never given to an engine.
local function last_delivered()
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[7])) do
    local group = {}
    for i = 1, #row, 2 do
      group[row[i]] = row[i + 1]
    end
    if group['name'] == ARGV[4] then
      return group['last-delivered-id']
    end
  end
end

-- The delayed set keeps the stream's name before the fields; by its bytes a job is taken out.
local function in_delayed(id, meta)
  local due = redis.call('ZSCORE', KEYS[6], id)
  if due then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[7], due, due)) do
      if string.sub(member, -#meta) == meta then
        local fields = cmsgpack.unpack(member)
        table.remove(fields, 1)
        return fields, function()
          redis.call('ZREM', KEYS[7], member)
        end
      end
    end
  end
end

local delivered = ARGV[4] ~= '' and last_delivered()
local function in_lane(id, meta)
  local entry = delivered and is_after(id, delivered) and redis.call('XRANGE', KEYS[7], id, id)[1]
  if entry and entry[2][#entry[2]] == meta then
    return entry[2], function()
      redis.call('XDEL', KEYS[7], id)
    end
  end
end

-- Puts the fields of the dead letter together as they were: record, own fields, left ones between.
local function as_before(fields, before)
  local whole, at, left = { '_dead', before[1] }, 1, 7
  while at <= #fields - 2 or left <= #before do
    if at > #fields - 2 or tonumber(before[left]) == #whole + 1 then
      whole[#whole + 1], whole[#whole + 2] = before[left + 1], before[left + 2]
      left = left + 3
    else
      whole[#whole + 1], whole[#whole + 2] = fields[at], fields[at + 1]
      at = at + 2
    end
  end
  return whole
end

local taken = 0
for i = 5, #ARGV, ARGV[4] == '' and 1 or 2 do
  local id = ARGV[i]
  local packed = redis.call('HGET', KEYS[5], id)
  if packed then
    local before = cmsgpack.unpack(packed)
    local fields, take
    if ARGV[4] == '' then
      fields, take = in_delayed(id, before[6])
    else
      fields, take = in_lane(ARGV[i + 1], before[6])
    end
    if fields then
      -- Taking comes first: a server that is out of memory lets a script go on once it has written.
      take()
      redis.call('XADD', KEYS[1], '*', unpack(as_before(fields, before)))
      if before[2] ~= '' then
        groups.raise(before[2], before[3], before[4], before[5])
      end
      redis.call('HDEL', KEYS[5], id)
      redis.call('ZREM', KEYS[6], id)
      taken = taken + 1
    end
  end
end
operation.count('undone', taken)
return { 1, taken }
