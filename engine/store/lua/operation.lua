-- operation: rules for scripts by which an engine drives a bulk operation on dead letters.
--
-- Stands before `put_off`, `take_back` and `drop`; it takes the keys 3 to 6 of each, and the first
-- three arguments.
--
-- KEYS[3]  operations  hash: id -> record (JSON), which changes with the operation's state
-- KEYS[4]  lease       string with TTL: the token of the engine that drives them
-- KEYS[5]  operation   hash: :moved, :gone, :done, :dead, :undone, :cursor, :due, :complete,
--                      :unable:<why>; dead entry -> what it was before, packed
-- KEYS[6]  due         zset: dead entry by the Unix ms at which its job is due
-- ARGV[1]  id          the operation
-- ARGV[2]  record      SHA-1 of its record as the caller knows it
-- ARGV[3]  token       the caller's
--
-- Returns nothing by itself.
local operations_key, lease_key, operation_key = KEYS[3], KEYS[4], KEYS[5]
local operation = {}

-- Whoever lost the lease, or does not know that somebody stopped it, changes nothing.
function operation.is_driven()
  local record = redis.call('HGET', operations_key, ARGV[1])
  return record and redis.sha1hex(record) == ARGV[2]
    and redis.call('GET', lease_key) == ARGV[3]
end

function operation.count(what, by)
  if by ~= 0 then
    redis.call('HINCRBY', operation_key, ':' .. what, by)
  end
end

-- Notes how far it is: cursor in the dead stream, due time of the next job, whether it is at the
-- end, and a packed list of reasons and counts of jobs that cannot be taken.
function operation.note(cursor, due, complete, unable)
  if cursor ~= '' then
    redis.call('HSET', operation_key, ':cursor', cursor)
  end
  redis.call('HSET', operation_key, ':due', due)
  if complete == '1' then
    redis.call('HSET', operation_key, ':complete', '1')
  end
  local reasons = cmsgpack.unpack(unable)
  for i = 1, #reasons, 2 do
    redis.call('HINCRBY', operation_key, ':unable:' .. reasons[i], reasons[i + 1])
  end
end

-- As engine/wire/packing.py has it, byte for byte: others find members of the delayed set by it.
function operation.pack(items)
  local parts = { '\221' .. struct.pack('>I4', #items) }
  for _, item in ipairs(items) do
    parts[#parts + 1] = '\219' .. struct.pack('>I4', #item)
    parts[#parts + 1] = item
  end
  return table.concat(parts)
end
