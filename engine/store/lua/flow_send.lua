-- flow_send: append children of flows to their lanes, each once however often it is sent.
--
-- KEYS[1]    sent       hash: child of a flow -> lane and entry
-- KEYS[2]    control    hash: told that flows are in use
-- KEYS[3-6]  lanes      critical, high, normal, low
-- ARGV[1]    until_ms   Unix ms from which on another engine may be sending them
-- ARGV[2…]   packed: child of a flow, index of its lane (1 to 4), fields
--
-- Returns 1 for each child that is in its lane or has been, 0 for each whose lane refused it; an
-- empty list where it is too late.
local clock = redis.call('TIME')
if clock[1] * 1000 + math.floor(clock[2] / 1000) >= tonumber(ARGV[1]) then
  return {}
end
if redis.call('HGET', KEYS[2], 'flows') ~= '1' then
  redis.call('HSET', KEYS[2], 'flows', 1)
end
local told = {}
for i = 2, #ARGV do
  local job = cmsgpack.unpack(ARGV[i])
  told[i - 1] = 1
  if redis.call('HEXISTS', KEYS[1], job[1]) == 0 then
    local lane = tonumber(job[2])
    local added = redis.pcall('XADD', KEYS[2 + lane], '*', unpack(job, 3))
    if type(added) == 'table' then
      told[i - 1] = 0
    else
      redis.call('HSET', KEYS[1], job[1], lane .. '/' .. added)
    end
  end
end
return told
