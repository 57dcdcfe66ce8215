-- enqueue: append a batch of jobs to their lanes once, however often the batch is sent.
--
-- KEYS[1]    memory  string: number and entry ids of this producer's last batch
-- KEYS[2…]   lanes   streams that the batch names
-- ARGV[1]    number  the batch's number within this producer, raised by one for each new batch
-- ARGV[2]    ttl_ms  how long the memory is kept
-- ARGV[3]    jobs    packed lists: the index of the lane in KEYS, then the stream's fields
--
-- may need: gates, claims
--
-- With these before it, for batches with unique values, the 18 keys of `gates` follow the others.
--
-- Returns the entry ids in the order of the jobs; with unique values also `=` and the id of the job
-- that one duplicates, and behind an entry id `>` and the id of the job that it replaces. A batch
-- that is older than the memory is an error: its producer has gone on without it. On any error
-- nothing is left behind.
local number = tonumber(ARGV[1])
local memory = redis.call('GET', KEYS[1])
if memory then
  local ids = {}
  for word in string.gmatch(memory, '%S+') do
    ids[#ids + 1] = word
  end
  local last = tonumber(table.remove(ids, 1))
  if last == number then
    return ids
  elseif last > number then
    return redis.error_reply('STALE batch ' .. number .. ' comes after batch ' .. last)
  end
end

local ids = {}
local jobs = cmsgpack.unpack(ARGV[3])
for i, job in ipairs(jobs) do
  local lane = KEYS[tonumber(job[1])]
  local id = gates and gates.append(lane, { unpack(job, 2) })
    or redis.pcall('XADD', lane, '*', unpack(job, 2))
  if type(id) == 'table' then
    -- All or nothing: nobody has seen what is taken back, since scripts run alone.
    for j = 1, i - 1 do
      if string.sub(ids[j], 1, 1) ~= '=' then
        redis.call('XDEL', KEYS[tonumber(jobs[j][1])], string.match(ids[j], '^[^>]+'))
      end
    end
    if gates then
      gates.take_back_claims()
    end
    return id
  end
  ids[i] = id
end
redis.call('SET', KEYS[1], number .. ' ' .. table.concat(ids, ' '), 'PX', ARGV[2])
return ids
