-- trim: drop the oldest finished jobs beyond a count or an age.
--
-- KEYS[1]  done      stream, each entry of which tells of n jobs
-- KEYS[2]  stats     hash with the field done_kept
-- ARGV[1]  jobs_max  most jobs to keep
-- ARGV[2]  age_ms    how long to keep one
-- ARGV[3]  count     most entries to drop
--
-- Returns how many jobs were dropped.
local clock = redis.call('TIME')
local oldest_ms = clock[1] * 1000 + math.floor(clock[2] / 1000) - tonumber(ARGV[2])
local kept = tonumber(redis.call('HGET', KEYS[2], 'done_kept') or '0')
local ids, dropped = {}, 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[3])) do
  local jobs = tonumber(entry[2][8]) or 0
  local at = tonumber(string.match(entry[1], '^%d+'))
  if at > oldest_ms and kept - dropped - jobs < tonumber(ARGV[1]) then
    break
  end
  ids[#ids + 1] = entry[1]
  dropped = dropped + jobs
end
if #ids > 0 then
  redis.call('XDEL', KEYS[1], unpack(ids))
  redis.call('HINCRBY', KEYS[2], 'done_kept', -dropped)
end
if redis.call('XLEN', KEYS[1]) == 0 and kept - dropped ~= 0 then
  -- The stream's own bound or an operator dropped entries that were counted.
  redis.call('HSET', KEYS[2], 'done_kept', 0)
end
return dropped
