-- forget: drop tombstones whose jobs are gone.
--
-- KEYS[1]    cancelled  hash: job id -> tombstone (JSON)
-- KEYS[2…]   streams    the lanes, and their streams of jobs that gates let through
-- ARGV[1]    age_ms     least age of what is dropped
-- ARGV[2…]   job ids that were looked for everywhere else
--
-- Returns how many were dropped. One is kept while any lane has an entry that is older than it,
-- waiting or running, since that may be its job. One that was written by hand, without a time, is
-- given the present one, and goes on to stop jobs of its id that come later.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local oldest = now
for i = 2, #KEYS do
  local entry = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  if entry then
    oldest = math.min(oldest, tonumber(string.match(entry[1], '^%d+')))
  end
end
local dropped = 0
for i = 2, #ARGV do
  local raw = redis.call('HGET', KEYS[1], ARGV[i])
  if raw then
    local read, stone = pcall(cjson.decode, raw)
    if not read or type(stone) ~= 'table' then
      stone = { reason = read and raw or '' }
    end
    local at_ms = tonumber(stone.at_ms) or 0
    if at_ms == 0 then
      redis.call('HSET', KEYS[1], ARGV[i], cjson.encode({
        who = type(stone.who) == 'string' and stone.who or nil,
        reason = type(stone.reason) == 'string' and stone.reason or nil,
        at_ms = now,
        ahead = true,
      }))
    elseif now - at_ms >= tonumber(ARGV[1]) and oldest > at_ms then
      dropped = dropped + redis.call('HDEL', KEYS[1], ARGV[i])
    end
  end
end
return dropped
