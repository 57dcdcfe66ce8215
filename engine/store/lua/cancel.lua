-- cancel: lay tombstones for jobs, which engines then end.
--
-- KEYS[1]    cancelled  hash: job id -> tombstone (JSON)
-- KEYS[2-5]  lanes      critical, high, normal, low
-- ARGV[1]  max        most tombstones of a queue
-- ARGV[2]  who
-- ARGV[3]  reason
-- ARGV[4]  ahead      1 to stop jobs of these ids that come later, too; else an empty string
-- ARGV[5…] job ids
--
-- Returns the tombstone, or an empty string where they would be too many; nothing was changed then.
-- One that lies there is replaced, since its id may have been used again.
local fresh = 0
for i = 5, #ARGV do
  fresh = fresh + 1 - redis.call('HEXISTS', KEYS[1], ARGV[i])
end
if redis.call('HLEN', KEYS[1]) + fresh > tonumber(ARGV[1]) then
  return ''
end
local clock = redis.call('TIME')
local at_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i = 2, 5 do
  -- The clock may have been set back since these jobs came; their ids never go back.
  local info = redis.pcall('XINFO', 'STREAM', KEYS[i])
  for j = 1, #info, 2 do
    if info[j] == 'last-generated-id' then
      at_ms = math.max(at_ms, tonumber(string.match(info[j + 1], '^%d+')))
    end
  end
end
local stone = cjson.encode({
  who = ARGV[2] ~= '' and ARGV[2] or nil,
  reason = ARGV[3] ~= '' and ARGV[3] or nil,
  at_ms = at_ms,
  ahead = ARGV[4] == '1' or nil,
})
for i = 5, #ARGV do
  redis.call('HSET', KEYS[1], ARGV[i], stone)
end
return stone
