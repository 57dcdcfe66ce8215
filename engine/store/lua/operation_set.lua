-- operation_set: change the record of one operation, unless somebody was faster.
--
-- KEYS[1]  operations  hash: id -> record (JSON)
-- KEYS[2]  control     hash: its field `operations` names those that live, for engines to see
-- KEYS[3]  operation   hash: its counts, and what was before
-- KEYS[4]  due         zset: what it took by due time
-- ARGV[1]  id          the operation
-- ARGV[2]  before      SHA-1 of the record as the caller knows it; empty for none
-- ARGV[3]  after       the record from now on; empty to take it away
-- ARGV[4]  live        1 if an engine has something to do for it from now on
-- ARGV[5]  over        1 to forget its counts and what was before
--
-- Returns whether it was changed, and the record that is there now, nil for none.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if (record and redis.sha1hex(record) or '') ~= ARGV[2] then
  return { 0, record }
end
-- HDEL comes first: a server that is out of memory lets a script go on once it has written.
redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
local live = {}
for id in string.gmatch(redis.call('HGET', KEYS[2], 'operations') or '', '%S+') do
  if id ~= ARGV[1] then
    live[#live + 1] = id
  end
end
if ARGV[4] == '1' then
  live[#live + 1] = ARGV[1]
  redis.call('HSETNX', KEYS[3], ':moved', 0)
end
if #live > 0 then
  redis.call('HSET', KEYS[2], 'operations', table.concat(live, ' '))
else
  redis.call('HDEL', KEYS[2], 'operations')
end
if ARGV[5] == '1' then
  redis.call('UNLINK', KEYS[3], KEYS[4])
end
return { 1, ARGV[3] }
