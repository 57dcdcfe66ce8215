-- groups: rules that keep the counts of dead letters by fingerprint.
--
-- Stands before scripts that take dead letters away or bring them back; it takes the second key.
--
-- KEYS[2]  groups  hash: <fingerprint>:n, :first, :last, :sample
--
-- Returns nothing by itself.
local groups_key = KEYS[2]
local groups = {}

-- Deaths beyond the bound of groups are counted together; what no engine wrote, which has an empty
-- fingerprint, was never counted.
function groups.counted_as(print)
  if print == '' then
    return nil
  end
  if redis.call('HEXISTS', groups_key, print .. ':n') == 1 then
    return print
  end
  return 'other'
end

function groups.lower(print)
  if not print then
    return
  end
  if redis.call('HINCRBY', groups_key, print .. ':n', -1) <= 0 then
    redis.call('HDEL', groups_key, print .. ':n', print .. ':first', print .. ':last',
      print .. ':sample')
  end
end

-- Returns count, first and last death and sample; the first is nil for a group that is not there.
function groups.about(print)
  local found = redis.call('HMGET', groups_key, print .. ':n', print .. ':first', print .. ':last',
    print .. ':sample')
  return found[1] or nil, found[2] or '', found[3] or '', found[4] or ''
end

-- Counts a death that was counted before, in the group as it was.
function groups.raise(print, first, last, sample)
  local _, known_first, known_last = groups.about(print)
  if first ~= '' and (known_first == '' or tonumber(first) < tonumber(known_first)) then
    redis.call('HSET', groups_key, print .. ':first', first, print .. ':sample', sample)
  end
  if last ~= '' and (known_last == '' or tonumber(last) > tonumber(known_last)) then
    redis.call('HSET', groups_key, print .. ':last', last)
  end
  redis.call('HINCRBY', groups_key, print .. ':n', 1)
end
