-- move: take one job from where it waits and put it elsewhere, or change nothing.
--
-- needs: gates, claims
--
-- KEYS[1]  source     a lane, the delayed set, the stream of a held type, or a lane's parked jobs
-- KEYS[2]  target     one of these but the last
-- KEYS[3…] the 18 keys of `gates`
-- ARGV[1]  from       lane, delayed, held or parked
-- ARGV[2]  place      the entry's id, or the member of the sorted set
-- ARGV[3]  to         lane, delayed or held
-- ARGV[4]  due_ms     Unix time in ms, for the delayed set
-- ARGV[5]  packed     lane and fields, as the job is from now on
-- ARGV[6]  group      consumer group of the lanes
-- ARGV[7]  released   its consumer that keeps what was handed back
-- ARGV[8]  deliveries of an entry that was handed back, as the caller saw it
-- ARGV[9]  name       of the stream that the job lies in or would come back to
-- ARGV[10] early      1 if it gives away what it holds of the gates: its key's turn, places
-- ARGV[11] key
-- ARGV[12] ticket     its place in the order
-- ARGV[13] own_id     its producer's id if no engine has started it yet, else an empty string
--
-- Returns moved; gone if it is not there any more; active if an engine has it.
local source, target, from, place, to = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]

local is_sorted = from == 'delayed' or from == 'parked'
if is_sorted then
  if not redis.call('ZSCORE', source, place) then
    return 'gone'
  end
  -- Taking nothing away counts as a write, and a server that is out of memory lets a script go on
  -- once it has written: the job takes as much room afterwards as before.
  redis.call('ZREM', source, '')
else
  if #redis.call('XRANGE', source, place, place) == 0 then
    return 'gone'
  end
  if from == 'lane' then
    local row = redis.pcall('XPENDING', source, ARGV[6], place, place, 1)
    -- Without its group, nobody can have been given it.
    row = not row.err and row[1]
    if row and (row[2] ~= ARGV[7] or row[4] ~= tonumber(ARGV[8])) then
      return 'active'
    end
  end
  redis.call('XDEL', source, '0-0')
end

-- What the target refuses stays where it is.
if to == 'delayed' then
  if from == 'delayed' and place == ARGV[5] then
    redis.call('ZADD', target, ARGV[4], ARGV[5])
    return 'moved'
  end
  redis.call('ZADD', target, ARGV[4], ARGV[5])
elseif to == 'held' then
  redis.call('XADD', target, '*', 'job', ARGV[5])
else
  local job = cmsgpack.unpack(ARGV[5])
  if string.find(job[1], ':', 1, true) then
    gates.use(ARGV[6])
  end
  redis.call('XADD', target, '*', unpack(job, 2))
end

if is_sorted then
  redis.call('ZREM', source, place)
else
  if from == 'lane' then
    redis.pcall('XACK', source, ARGV[6], place)
  end
  redis.call('XDEL', source, place)
  if from == 'held' and redis.call('XLEN', source) == 0 then
    redis.call('DEL', source)
  end
end
if ARGV[10] == '1' then
  local entry = ARGV[9] .. '/' .. place
  gates.leave(gates.lane_of(ARGV[9]), entry, 'early', ARGV[11], ARGV[12], '', '')
  gates.release_freed()
end
if ARGV[13] ~= '' then
  gates.forget_id(ARGV[13], string.match(ARGV[9], '^[^:]+') .. '/' .. ARGV[12])
end
return 'moved'
