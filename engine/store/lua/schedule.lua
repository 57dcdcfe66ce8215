-- schedule: change one schedule and add the jobs of its ticks, unless somebody was faster.
--
-- KEYS[1]  schedules  hash: name → record
-- KEYS[2]  lane       stream that takes the jobs
-- ARGV[1]  name       the schedule
-- ARGV[2]  before     SHA-1 of the record as the caller knows it; empty for none
-- ARGV[3]  after      the record from now on; empty to take it away
-- ARGV[4]  due_ms     Unix ms before which nothing is done; 0 for none
-- ARGV[5…] the jobs' fields, packed
--
-- Returns 'done'; 'early' and the ms until the due time; or 'changed' and the record that is there,
-- nil for none.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if (record and redis.sha1hex(record) or '') ~= ARGV[2] then
  return { 'changed', record }
end
local clock = redis.call('TIME')
local left = tonumber(ARGV[4]) - (clock[1] * 1000 + math.floor(clock[2] / 1000))
if left > 0 then
  return { 'early', left }
end
local added = {}
for i = 5, #ARGV do
  local entry = redis.pcall('XADD', KEYS[2], '*', unpack(cmsgpack.unpack(ARGV[i])))
  if type(entry) == 'table' then
    -- All or nothing: nobody has seen what is taken back, since scripts run alone.
    for _, id in ipairs(added) do
      redis.call('XDEL', KEYS[2], id)
    end
    return entry
  end
  added[#added + 1] = entry
end
-- A server that is out of memory lets a script go on once it has written.
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return { 'done' }
