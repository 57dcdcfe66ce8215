-- flow_cancel: cancel children of a flow that were sent and whose ends are not known yet.
--
-- KEYS[1]  sent       hash: child of a flow -> lane and entry
-- KEYS[2]  cancelled  hash: job id -> tombstone (JSON)
-- ARGV[1]  who        JSON text
-- ARGV[2]  reason     JSON text
-- ARGV[3…] for each: child of a flow, its job id
--
-- Returns how many there were.
local clock = redis.call('TIME')
local stone = '{"who":' .. ARGV[1] .. ',"reason":' .. ARGV[2] .. ',"at_ms":'
  .. string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)) .. '}'
local count = 0
for i = 3, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('HSETNX', KEYS[2], ARGV[i + 1], stone)
    count = count + 1
  end
end
return count
