-- ready: streams of jobs that gates let through, for scripts that write to them by themselves.
--
-- Stands before scripts that bring jobs back; it takes the last 5 keys of each.
--
-- KEYS[…]  ready    streams, critical to low
-- KEYS[…]  control  hash: its field `gates` tells engines to read those streams
--
-- Returns nothing by itself.
local ready_keys = { KEYS[#KEYS - 4], KEYS[#KEYS - 3], KEYS[#KEYS - 2], KEYS[#KEYS - 1] }
local control_of_ready = KEYS[#KEYS]
local ready_in_use = false

-- A job may have its place in an order before any engine has asked for it: it was dead at once.
local function use_ready()
  if not ready_in_use then
    ready_in_use = true
    if redis.pcall('HSETNX', control_of_ready, 'gates', '1') == 1 then
      for _, stream in ipairs(ready_keys) do
        redis.pcall('XGROUP', 'CREATE', stream, 'engine', '0', 'MKSTREAM')
      end
    end
  end
end
