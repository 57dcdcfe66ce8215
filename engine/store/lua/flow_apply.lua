-- flow_apply: note how children ended, and bring their parent to its lane once it waits no more.
--
-- KEYS[1]    flow         hash of one flow
-- KEYS[2]    flows        zset of parents that wait
-- KEYS[3]    todo         zset: flow by the Unix ms of the next try
-- KEYS[4-7]  lanes        critical, high, normal, low
-- ARGV[1]    name         the flow
-- ARGV[2]    results_max  bytes of results to keep
-- ARGV[3]    failures_max failures to keep
-- ARGV[4-7]  names of the lanes, in the order of their keys
-- ARGV[8…]   for each end: number of the child from 0, or -1 for the parent's own cancelling; its
--            letter; how it closes the flow, or an empty string; result; failure (JSON)
--
-- A child that is not known to be sent, while an engine may be sending it, is put off: that engine
-- would send it again once its end is forgotten in its own queue.
--
-- Returns how this call closed the flow, or an empty string, and the numbers that were put off.
-- Repeating it changes nothing.
local flow, name = KEYS[1], ARGV[1]
local states = redis.call('HGET', flow, 'states')
if not states then
  return { '', {} }
end
-- A server that is out of memory lets a script go on once it has written: flows must end then too.
redis.call('ZREM', KEYS[3], '')
local clock = redis.call('TIME')
local sending = tonumber(redis.call('ZSCORE', KEYS[3], name) or 0)
  > clock[1] * 1000 + math.floor(clock[2] / 1000)
local later = {}
local closed = redis.call('HGET', flow, 'closed')
local want = redis.call('HGET', flow, 'want') == '1'
local kept = tonumber(redis.call('HGET', flow, 'bytes') or 0)
local failures = tonumber(redis.call('HGET', flow, 'failures') or 0)
local how
-- Letters that change, by place: the string is put together once, since it may be long.
local changed, places = {}, {}
for i = 8, #ARGV, 5 do
  local at = tonumber(ARGV[i]) + 1
  local letter, close, result, failure = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local before = changed[at] or string.sub(states, at, at)
  if at == 0 then
    how = how or close
  elseif before == 'p' and sending then
    later[#later + 1] = at - 1
  elseif before == 'p' or before == 's'
    or (letter == 'd' and (before == 'i' or before == 'c') and not closed) then
    if not changed[at] then
      places[#places + 1] = at
    end
    changed[at] = letter
    if want and result ~= '' and not closed then
      if kept + #result > tonumber(ARGV[2]) then
        result = '{"resultNotKept":"the results of all children are over ' .. ARGV[2] .. ' bytes"}'
      else
        kept = kept + #result
      end
      redis.call('HSET', flow, 'r' .. (at - 1), result)
    end
    if failure ~= '' and close ~= '' then
      redis.call('HSETNX', flow, 'cause', failure)
    elseif failure ~= '' and failures < tonumber(ARGV[3]) then
      redis.call('HSET', flow, 'f' .. failures, failure)
      failures = failures + 1
    end
  end
  if close ~= '' and at > 0 and (changed[at] or before) == letter then
    how = how or close
  end
end
table.sort(places)
local parts, from = {}, 1
for _, at in ipairs(places) do
  parts[#parts + 1] = string.sub(states, from, at - 1) .. changed[at]
  from = at + 1
end
states = table.concat(parts) .. string.sub(states, from)
redis.call('HSET', flow, 'states', states, 'bytes', kept, 'failures', failures)
if closed then
  return { '', later }
end
if not how and not string.find(states, '[ps]') then
  how = 'complete'
end
if not how then
  return { '', later }
end

local told = { redis.call('HGET', flow, 'cause') or nil }
for i = 0, failures - 1 do
  told[#told + 1] = redis.call('HGET', flow, 'f' .. i)
end
local record = '{"how":"' .. how .. '","states":"' .. states .. '","redrives":'
  .. (redis.call('HGET', flow, 'redrives') or '0') .. ',"failures":[' .. table.concat(told, ',') .. ']'
if want then
  local results = {}
  for first = 0, #states - 1, 1000 do
    local fields = {}
    for number = first, math.min(first + 999, #states - 1) do
      fields[#fields + 1] = 'r' .. number
    end
    for _, result in ipairs(redis.call('HMGET', flow, unpack(fields))) do
      results[#results + 1] = result or 'null'
    end
  end
  record = record .. ',"results":[' .. table.concat(results, ',') .. ']'
end

local job = cmsgpack.unpack(redis.call('HGET', flow, 'job'))
local lane = KEYS[6]
for i = 4, 7 do
  if ARGV[i] == job[1] then
    lane = KEYS[i]
  end
end
job[#job + 1] = '_children'
job[#job + 1] = record .. '}'
local added = redis.pcall('XADD', lane, '*', unpack(job, 2))
if type(added) == 'table' then
  -- The lane refuses it. What ended is noted; the same call closes the flow once it does not.
  return added
end
redis.call('ZREM', KEYS[2], name)
if how == 'complete' or not string.find(states, '[ps]')
  or (how == 'continued' and not string.find(states, 'p', 1, true)) then
  redis.call('ZREM', KEYS[3], name)
  redis.call('UNLINK', flow)
else
  redis.call('HSET', flow, 'closed', how)
  -- Whoever is sending now goes on until its time is over.
  redis.call('ZADD', KEYS[3], 'NX', 0, name)
end
return { how, later }
