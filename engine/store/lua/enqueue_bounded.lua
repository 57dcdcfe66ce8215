-- enqueue_bounded: append a batch of jobs once, as `enqueue` does, as far as the queue has room.
--
-- KEYS[1]    memory   string: number and answers of this producer's last batch
-- KEYS[2]    control  hash: jobs_max, bytes_max, and what counts where these are missing
-- KEYS[3…]   counted  what holds the queue's jobs: streams, its lanes first, then sorted sets
-- ARGV[1]    number   the batch's number within this producer, raised by one for each new batch
-- ARGV[2]    ttl_ms   how long the memory is kept
-- ARGV[3]    streams  how many of the counted keys are streams
-- ARGV[4]    jobs     packed lists: the index of the lane in KEYS, `full` or `shed`, the percent of
--                     the bounds that the job may fill, its bytes, then the stream's fields
--
-- may need: gates, claims
--
-- With these before it, for batches with unique values, the 18 keys of `gates` follow the others.
--
-- Returns one word for each job: its entry id as `enqueue` tells it, or `full` or `shed` where it
-- was not appended; and then one word with what the queue holds now: jobs, jobs_max, bytes and
-- bytes_max, parted by slashes. A batch that is older than the memory is an error, as in `enqueue`.
-- On any error nothing is left behind.
local number = tonumber(ARGV[1])
local memory = redis.call('GET', KEYS[1])
if memory then
  local words = {}
  for word in string.gmatch(memory, '%S+') do
    words[#words + 1] = word
  end
  local last = tonumber(table.remove(words, 1))
  if last == number then
    return words
  elseif last > number then
    return redis.error_reply('STALE batch ' .. number .. ' comes after batch ' .. last)
  end
end

local set = redis.call('HMGET', KEYS[2],
  'jobs_max', 'jobs_max_default', 'bytes_max', 'bytes_max_default')
local jobs_max = tonumber(set[1] or '') or tonumber(set[2] or '') or 0
local bytes_max = tonumber(set[3] or '') or tonumber(set[4] or '') or 0

local held, bytes = 0, 0
for i = 3, #KEYS - (gates and 18 or 0) do
  local key = KEYS[i]
  if i - 2 <= tonumber(ARGV[3]) then
    held = held + redis.call('XLEN', key)
  else
    held = held + redis.call('ZCARD', key)
  end
  if bytes_max > 0 then
    bytes = bytes + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 50) or 0)
  end
end

-- The most that jobs of one percent may fill, by the percent as it is written.
local function most_of(percent)
  return {
    jobs = jobs_max > 0 and math.floor(jobs_max * percent / 100) or math.huge,
    bytes = bytes_max > 0 and bytes_max * percent / 100 or math.huge,
  }
end

local words, most = {}, {}
local is_full = false
local jobs = cmsgpack.unpack(ARGV[4])
for i, job in ipairs(jobs) do
  local lane, otherwise, percent = KEYS[tonumber(job[1])], job[2], job[3]
  local limit = most[percent]
  if not limit then
    limit = most_of(tonumber(percent))
    most[percent] = limit
  end
  local size = bytes_max > 0 and tonumber(job[4]) or 0
  -- An empty queue takes one job of any size, or it would never be taken.
  local fits = held == 0 or held < limit.jobs and bytes + size <= limit.bytes
  -- Once one job has to wait all later ones do, whatever their size: they keep their order.
  if fits and not (is_full and otherwise == 'full') then
    local id = gates and gates.append(lane, { unpack(job, 5) })
      or redis.pcall('XADD', lane, '*', unpack(job, 5))
    if type(id) == 'table' then
      -- All or nothing: nobody has seen what is taken back, since scripts run alone.
      for j = 1, i - 1 do
        if words[j] ~= jobs[j][2] and string.sub(words[j], 1, 1) ~= '=' then
          redis.call('XDEL', KEYS[tonumber(jobs[j][1])], string.match(words[j], '^[^>]+'))
        end
      end
      if gates then
        gates.take_back_claims()
      end
      return id
    end
    words[i] = id
    if string.sub(id, 1, 1) ~= '=' then
      held, bytes = held + 1, bytes + size
    end
  else
    words[i] = otherwise
    is_full = is_full or otherwise == 'full'
  end
end
words[#words + 1] = string.format('%.0f/%.0f/%.0f/%.0f', held, jobs_max, bytes, bytes_max)
redis.call('SET', KEYS[1], number .. ' ' .. table.concat(words, ' '), 'PX', ARGV[2])
return words
