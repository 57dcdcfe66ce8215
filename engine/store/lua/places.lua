-- places: rules for scripts that look whether jobs are anywhere in their queue.
--
-- Stands before `flow_lost` and `operation_lost`. Whatever moves a job from one place to another is
-- one script in this slot too, so what is in none of them now is not on its way either. A job that an
-- engine has lives, even if somebody deleted its entry: its lease holder, or whoever takes it over,
-- ends it.
--
-- Returns nothing by itself.
local places = {}

-- Calls `look` with each packed job and each field of the others, from the keys `first` on: the
-- delayed set, the parked jobs of four lanes, the lanes, their streams of jobs that were let through,
-- streams of held types. Returns whether all have been looked at; not so with more than `most` jobs, or
-- in about more than `bytes`, or where some engine has an entry that was deleted, whosever it was.
function places.walk(first, group, most, bytes, look)
  local left, room = tonumber(most), tonumber(bytes)
  for number = first, first + 4 do
    left = left - redis.call('ZCARD', KEYS[number])
  end
  for number = first + 5, #KEYS do
    left = left - redis.call('XLEN', KEYS[number])
  end
  for number = first, #KEYS do
    room = room - (redis.call('MEMORY', 'USAGE', KEYS[number], 'SAMPLES', 50) or 0)
  end
  if left < 0 or room < 0 then
    return false
  end
  for number = first, first + 4 do
    for _, member in ipairs(redis.call('ZRANGE', KEYS[number], 0, -1)) do
      look(member)
    end
  end
  for number = first + 13, #KEYS do
    for _, row in ipairs(redis.call('XRANGE', KEYS[number], '-', '+')) do
      for _, value in ipairs(row[2]) do
        look(value)
      end
    end
  end
  for number = first + 5, first + 12 do
    local there = {}
    for _, row in ipairs(redis.call('XRANGE', KEYS[number], '-', '+')) do
      there[row[1]] = true
      for _, value in ipairs(row[2]) do
        look(value)
      end
    end
    local pending = redis.pcall('XPENDING', KEYS[number], group, '-', '+', most)
    for _, row in ipairs(pending.err and {} or pending) do
      if not there[row[1]] then
        return false
      end
    end
  end
  return true
end

-- Tells whether a job is among those that wait for children, in the key with that number.
function places.is_parent(number, id)
  local from, to = '[' .. id .. '/', '(' .. id .. '0'
  return #redis.call('ZRANGEBYLEX', KEYS[number], from, to, 'LIMIT', 0, 1) > 0
end
