-- unhold: move set-aside jobs of types that are held no more back to their lanes.
--
-- needs: ready
--
-- KEYS[1-4]  lanes    critical, high, normal, low
-- KEYS[5…]   held     streams of set-aside jobs, one per type
-- KEYS[…]    ready    streams of jobs that gates let through, critical to low
-- KEYS[…]    control  hash with a field hold:<type> per held type; told that `ready` is in use
-- ARGV[1]    count    most jobs to move
-- ARGV[2-9]  names of the lanes and of the other streams, in the order of their keys
-- ARGV[10…]  names of the types, in the order of their streams
--
-- Returns how many were moved.
local streams, held_max = {}, #KEYS - 5
for i = 1, 4 do
  streams[ARGV[1 + i]], streams[ARGV[5 + i]] = KEYS[i], KEYS[held_max + i]
end
local moved, count = 0, tonumber(ARGV[1])
for i = 5, held_max do
  if moved < count and redis.call('HEXISTS', KEYS[#KEYS], 'hold:' .. ARGV[5 + i]) == 0 then
    for _, entry in ipairs(redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', count - moved)) do
      local fields = cmsgpack.unpack(entry[2][2])
      -- Deleting comes first: a server that is out of memory lets a script go on once it has
      -- written. What its lane does not take goes back.
      redis.call('XDEL', KEYS[i], entry[1])
      if string.find(fields[1], ':', 1, true) then
        use_ready()
      end
      local added = redis.pcall('XADD', streams[fields[1]] or KEYS[3], '*', unpack(fields, 2))
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
