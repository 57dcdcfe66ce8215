-- enqueue: append a batch of jobs to their lanes once, however often the batch is sent.
--
-- KEYS[1]    memory  string: number and entry ids of this producer's last batch
-- KEYS[2…]   lanes   streams that the batch names
-- ARGV[1]    number  the batch's number within this producer, raised by one for each new batch
-- ARGV[2]    ttl_ms  how long the memory is kept
-- ARGV[3]    packed  two lists. The jobs: for each the number of its kind, from 1, its data, and the
--                    names and values of its further fields. The kinds, a list each: the index of
--                    the lane in KEYS, the type, and how many names and values follow the data
--
-- may need: gates, claims
--
-- With these before it, for batches with unique values, the 18 keys of `gates` follow the others.
--
-- Returns the entry ids in the order of the jobs, parted by spaces; with unique values also `=` and
-- the id of the job that one duplicates, and behind an entry id `>` and the id of the job that it
-- replaces. A batch that is older than the memory is an error: its producer has gone on without it.
-- On any error nothing is left behind.
local memory = redis.call('GET', KEYS[1])
if memory then
  local last, words = string.match(memory, '^(%d+) (.*)$')
  if last == ARGV[1] then
    return words
  elseif tonumber(last) > tonumber(ARGV[1]) then
    return redis.error_reply('STALE batch ' .. ARGV[1] .. ' comes after batch ' .. last)
  end
end

local parts, kinds = unpack(cmsgpack.unpack(ARGV[3]))
for _, kind in ipairs(kinds) do
  kind[1], kind[3] = KEYS[tonumber(kind[1])], tonumber(kind[3])
end

local ids, lanes = {}, {}
local at, count, last = 1, 0, #parts
while at < last do
  local kind = kinds[parts[at]]
  local lane, further = kind[1], kind[3]
  local id
  if gates then
    id = gates.append(lane, { 'type', kind[2], 'data', unpack(parts, at + 1, at + 1 + further) })
  elseif further == 0 then
    id = redis.pcall('XADD', lane, '*', 'type', kind[2], 'data', parts[at + 1])
  else
    local from, to = at + 1, at + 1 + further
    id = redis.pcall('XADD', lane, '*', 'type', kind[2], 'data', unpack(parts, from, to))
  end
  if type(id) == 'table' then
    -- All or nothing: nobody has seen what is taken back, since scripts run alone.
    for j, taken in ipairs(ids) do
      if string.sub(taken, 1, 1) ~= '=' then
        redis.call('XDEL', lanes[j], string.match(taken, '^[^>]+'))
      end
    end
    if gates then
      gates.take_back_claims()
    end
    return id
  end
  count = count + 1
  ids[count], lanes[count] = id, lane
  at = at + 2 + further
end
local words = table.concat(ids, ' ')
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. words, 'PX', ARGV[2])
return words
