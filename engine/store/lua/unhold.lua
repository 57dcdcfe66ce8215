-- unhold: move set-aside jobs of types that are held no more back to their lanes.
--
-- KEYS[1]    control  hash with a field hold:<type> per held type
-- KEYS[2-5]  lanes    critical, high, normal, low
-- KEYS[6-9]  ready    their streams of jobs that gates let through
-- KEYS[10…]  held     streams of set-aside jobs, one per type
-- ARGV[1]    count    most jobs to move
-- ARGV[2-9]  names of the streams, in the order of their keys
-- ARGV[10…]  names of the types, in the order of their streams
--
-- Returns how many were moved.
local streams = {}
for i = 2, 9 do
  streams[ARGV[i]] = KEYS[i]
end
local moved, count = 0, tonumber(ARGV[1])
for i = 10, #KEYS do
  if moved < count and redis.call('HEXISTS', KEYS[1], 'hold:' .. ARGV[i]) == 0 then
    for _, entry in ipairs(redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', count - moved)) do
      local fields = cmsgpack.unpack(entry[2][2])
      -- Deleting comes first: a server that is out of memory lets a script go on once it has
      -- written. What its lane does not take goes back.
      redis.call('XDEL', KEYS[i], entry[1])
      local added = redis.pcall('XADD', streams[fields[1]] or KEYS[4], '*', unpack(fields, 2))
      if type(added) == 'table' then
        redis.call('XADD', KEYS[i], '*', 'job', entry[2][2])
        return moved
      end
      moved = moved + 1
    end
    if redis.call('XLEN', KEYS[i]) == 0 then
      redis.call('DEL', KEYS[i])
    end
  end
end
return moved
