-- waiting: count the jobs of each lane that no engine has been given yet.
--
-- KEYS[…]   lanes  the lanes' streams
-- ARGV[1]   group  consumer group
--
-- Returns one number per lane; an error where a lane or its group is missing.
local counts = {}
for i, lane in ipairs(KEYS) do
  local info = redis.call('XINFO', 'GROUPS', lane)
  local pending
  for _, entry in ipairs(info) do
    local is_ours = false
    for j = 1, #entry, 2 do
      if entry[j] == 'name' then
        is_ours = entry[j + 1] == ARGV[1]
      elseif entry[j] == 'pending' and is_ours then
        pending = entry[j + 1]
      end
    end
  end
  if not pending then
    return redis.error_reply('NOGROUP lane ' .. lane .. ' has no group')
  end
  -- Less than none where leased entries were deleted from their stream.
  counts[i] = math.max(0, redis.call('XLEN', lane) - pending)
end
return counts
