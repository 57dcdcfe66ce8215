-- put_off: move dead jobs of an operation to the delayed set, each at most once.
--
-- needs: groups, operation
--
-- KEYS[1]   dead     stream of dead jobs: _dead and its record, then the job's own fields
-- KEYS[2-6] those of `groups` and `operation`
-- KEYS[7]   delayed  zset: packed stream and fields by due time (Unix ms)
-- ARGV[1-3] those of `operation`
-- ARGV[4]   cursor   the last dead entry that has been dealt with; empty to leave it
-- ARGV[5]   due      the Unix ms at which the next job is due
-- ARGV[6]   complete 1 if no job is left
-- ARGV[7]   unable   packed: reason, count, … of jobs that cannot be brought back
-- ARGV[8]   ttl      seconds that what was before is kept
-- ARGV[9…]  for each job: entry id, name of the stream that it comes back to, fingerprint, the
--           engine's own field `_engine`, 1 to drop the field `expires`, Unix ms when it is due
--
-- Returns whether the operation is the caller's; how many were moved; how many were gone.
if not operation.is_driven() then
  return { 0, 0, 0 }
end

-- Parts the fields of a dead entry into those that the job comes back with, and those that it
-- leaves behind, each with its place.
local function part(fields, drop_expires)
  local own, left = {}, {}
  for i = 3, #fields, 2 do
    local name = fields[i]
    if name == '_engine' or (name == 'expires' and drop_expires) then
      left[#left + 1] = tostring(i)
      left[#left + 1] = name
      left[#left + 1] = fields[i + 1]
    else
      own[#own + 1] = name
      own[#own + 1] = fields[i + 1]
    end
  end
  return own, left
end

local moved, gone = 0, 0
for i = 9, #ARGV, 6 do
  local id, meta, due = ARGV[i], ARGV[i + 3], ARGV[i + 5]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    gone = gone + 1
  else
    local fields = entry[2]
    local own, left = part(fields, ARGV[i + 4] == '1')
    local print = groups.counted_as(ARGV[i + 2])
    local count, first, last, sample = groups.about(print)
    -- XDEL comes first: a server that is out of memory lets a script go on once it has written.
    redis.call('XDEL', KEYS[1], id)
    if count then
      groups.lower(print)
    end
    local member = { ARGV[i + 1] }
    for _, value in ipairs(own) do
      member[#member + 1] = value
    end
    member[#member + 1] = '_engine'
    member[#member + 1] = meta
    redis.call('ZADD', KEYS[7], due, operation.pack(member))
    local before = { fields[2], count and print or '', first, last, sample, meta }
    for _, value in ipairs(left) do
      before[#before + 1] = value
    end
    redis.call('HSET', KEYS[5], id, operation.pack(before))
    redis.call('ZADD', KEYS[6], due, id)
    moved = moved + 1
  end
end
operation.count('moved', moved)
operation.count('gone', gone)
operation.note(ARGV[4], ARGV[5], ARGV[6], ARGV[7])
redis.call('EXPIRE', KEYS[5], ARGV[8])
redis.call('EXPIRE', KEYS[6], ARGV[8])
return { 1, moved, gone }
