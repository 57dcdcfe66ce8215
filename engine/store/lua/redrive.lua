-- redrive: bring dead jobs back to their lanes, each at most once.
--
-- needs: ready, groups
--
-- KEYS[1]    dead         stream of dead jobs: _dead and its record, then the job's own fields
-- KEYS[2]    dead groups  hash: <fingerprint>:n, :first, :last, :sample
-- KEYS[3-6]  lanes        critical, high, normal, low
-- KEYS[7-10] ready        likewise: their streams of jobs that gates let through, for jobs that
--                         have a place in the order of their key
-- KEYS[11]   control      hash: told that one of these is in use
-- ARGV[…]    for each job: entry id, index of its stream (1 to 8), fingerprint, the engine's own
--            field `_engine`, 1 to drop the field `expires`, the payload that takes the place of
--            the one it had (empty to keep that)
--
-- Returns how many came back, and the ids of those whose lane refused them; these are dead still,
-- under a new entry id. Entries that are gone are passed over.
local FIELDS_MAX = 7000 -- what unpack can put on Lua's stack

local function own_fields(fields, meta, drop_expires, data)
  local own = {}
  local is_new = data ~= ''
  for i = 3, #fields, 2 do
    local name = fields[i]
    if name ~= '_engine' and not (name == 'expires' and drop_expires)
      and not (name == 'data' and is_new) then
      own[#own + 1] = name
      own[#own + 1] = fields[i + 1]
    end
  end
  if is_new then
    own[#own + 1] = 'data'
    own[#own + 1] = data
  end
  own[#own + 1] = '_engine'
  own[#own + 1] = meta
  return own
end

local moved, refused = 0, {}
for i = 1, #ARGV, 6 do
  local id = ARGV[i]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry and #entry[2] > FIELDS_MAX then
    refused[#refused + 1] = id
  elseif entry then
    local fields = own_fields(entry[2], ARGV[i + 3], ARGV[i + 4] == '1', ARGV[i + 5])
    -- XDEL comes first: a server that is out of memory lets a script go on once it has written.
    redis.call('XDEL', KEYS[1], id)
    if tonumber(ARGV[i + 1]) > 4 then
      use_ready()
    end
    local added = redis.pcall('XADD', KEYS[2 + tonumber(ARGV[i + 1])], '*', unpack(fields))
    if type(added) == 'table' and added.err then
      -- Not a stream, or its last id is the highest there is: the job must not get lost.
      redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
      refused[#refused + 1] = id
    else
      groups.lower(groups.counted_as(ARGV[i + 2]))
      moved = moved + 1
    end
  end
end
return { moved, refused }
