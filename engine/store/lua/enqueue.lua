-- enqueue: append a batch of jobs to their lanes once, however often the batch is sent.
--
-- KEYS[1]    memory  string: number and entry ids of this producer's last batch
-- KEYS[2…]   lanes   streams that the batch names
-- ARGV[1]    number  the batch's number within this producer, raised by one for each new batch
-- ARGV[2]    ttl_ms  how long the memory is kept
-- ARGV[3]    jobs    packed lists: the index of the lane in KEYS, then the stream's fields
--
-- Returns the entry ids in the order of the jobs. A batch that is older than the memory is an
-- error: its producer has gone on without it. On any error nothing is left behind.
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
  local id = redis.pcall('XADD', KEYS[tonumber(job[1])], '*', unpack(job, 2))
  if type(id) == 'table' then
    -- All or nothing: nobody has seen what is taken back, since scripts run alone.
    for j = 1, i - 1 do
      redis.call('XDEL', KEYS[tonumber(jobs[j][1])], ids[j])
    end
    return id
  end
  ids[i] = id
end
redis.call('SET', KEYS[1], number .. ' ' .. table.concat(ids, ' '), 'PX', ARGV[2])
return ids
