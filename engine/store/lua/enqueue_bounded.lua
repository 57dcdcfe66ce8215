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
-- Returns one word for each job: its entry id, or `full` or `shed` where it was not appended; and
-- then one word with what the queue holds now: jobs, jobs_max, bytes and bytes_max, parted by
-- slashes. A batch that is older than the memory is an error, as in `enqueue`. On any error nothing
-- is left behind.
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
for i, key in ipairs(KEYS) do
  if i > 2 then
    if i - 2 <= tonumber(ARGV[3]) then
      held = held + redis.call('XLEN', key)
    else
      held = held + redis.call('ZCARD', key)
    end
    if bytes_max > 0 then
      bytes = bytes + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 50) or 0)
    end
  end
end

local function has_room(percent, size)
  -- An empty queue takes one job of any size, or it would never be taken.
  return held == 0
    or (jobs_max <= 0 or held < math.floor(jobs_max * percent / 100))
    and (bytes_max <= 0 or (bytes + size) * 100 <= bytes_max * percent)
end

local words, added = {}, {}
local is_full = false
for i, job in ipairs(cmsgpack.unpack(ARGV[4])) do
  local lane, otherwise, percent, size = KEYS[tonumber(job[1])], job[2], job[3], job[4]
  -- Once one job has to wait all later ones do, whatever their size: they keep their order.
  if not (is_full and otherwise == 'full') and has_room(tonumber(percent), tonumber(size)) then
    local id = redis.pcall('XADD', lane, '*', unpack(job, 5))
    if type(id) == 'table' then
      -- All or nothing: nobody has seen what is taken back, since scripts run alone.
      for _, taken in ipairs(added) do
        local from = KEYS[taken[1]]
        redis.call('XDEL', from, taken[2])
      end
      return id
    end
    added[#added + 1] = { tonumber(job[1]), id }
    words[i] = id
    held = held + 1
    bytes = bytes_max > 0 and bytes + tonumber(size) or 0
  else
    words[i] = otherwise
    is_full = is_full or otherwise == 'full'
  end
end
words[#words + 1] = string.format('%.0f/%.0f/%.0f/%.0f', held, jobs_max, bytes, bytes_max)
redis.call('SET', KEYS[1], number .. ' ' .. table.concat(words, ' '), 'PX', ARGV[2])
return words
