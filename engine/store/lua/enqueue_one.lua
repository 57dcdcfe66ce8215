-- enqueue_one: append one job to its lane once, however often it is sent, as `enqueue` does.
--
-- KEYS[1]   memory  string: number and entry ids of this producer's last batch
-- KEYS[2]   lane    stream
-- ARGV[1]   number  the batch's number within this producer, raised by one for each new batch
-- ARGV[2]   ttl_ms  how long the memory is kept
-- ARGV[3…]  fields  the stream's fields
--
-- Returns the entry id. A batch that is older than the memory is an error: its producer has gone on
-- without it. On any error nothing is left behind.
local memory = redis.call('GET', KEYS[1])
if memory then
  local last, words = string.match(memory, '^(%d+) (.*)$')
  if last == ARGV[1] then
    return words
  elseif tonumber(last) > tonumber(ARGV[1]) then
    return redis.error_reply('STALE batch ' .. ARGV[1] .. ' comes after batch ' .. last)
  end
end
local id = redis.pcall('XADD', KEYS[2], '*', unpack(ARGV, 3))
if type(id) == 'table' then
  return id
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. id, 'PX', ARGV[2])
return id
