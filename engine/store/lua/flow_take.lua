-- flow_take: take flows that have children to send or to cancel, so that others leave them alone.
--
-- KEYS[1]  todo      zset: flow by the Unix ms of the next try
-- ARGV[1]  count     most flows to take
-- ARGV[2]  lease_ms  how long others leave them alone
--
-- Returns the Unix ms at which that ends, and the flows.
-- A server that is out of memory lets a script go on once it has written.
redis.call('ZREM', KEYS[1], '')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local until_ms = now + tonumber(ARGV[2])
local taken = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, flow in ipairs(taken) do
  redis.call('ZADD', KEYS[1], until_ms, flow)
end
return { until_ms, taken }
