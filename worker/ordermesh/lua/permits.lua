-- A function that other scripts use: it takes permits for requests from the budget that all workers of an account share, a
-- token bucket (see budget.lua).
-- Arguments: the bucket (hash); the time of this server in milliseconds; requests per second; capacity; number of
--   requests, 0 if the worker ends, less than 0 to give back what it was granted and has not used; name of the worker
-- Returns the granted requests, milliseconds to wait if none was granted, workers that called in the last 5 s.
-- None is granted until `exhausted_until` (exhaust_budget.lua), 30 s at most.
-- It also stores the rate, the workers (`sharing`: each name and the time of its last call), and the number of requests
-- granted in this minute of the clock (`minute`, counted since 1970) and in the previous one, to report the use of the
-- budget. All of it is in one hash, so that a call reads once and writes once.
-- Invariant: in any span of s seconds at most capacity + s * rate requests are granted and not given back.
local MOST_PAUSE = 30000
local QUIET = 5000

local function take_permits(key, now, per_second, capacity, wanted, caller)
  local rate = tonumber(per_second) / 1000
  local state = redis.call('HMGET', key, 'tokens', 'at', 'exhausted_until', 'minute', 'used', 'before', 'sharing')
  local sharing, workers = {}, 0
  for name, called in string.gmatch(state[7] or '', '([^ =]+)=(%d+)') do
    -- One that called in the future did so before the clock was put back.
    if name ~= caller and tonumber(called) >= now - QUIET and tonumber(called) <= now then
      workers = workers + 1
      sharing[workers] = name .. '=' .. called
    end
  end
  if wanted == 0 then
    if state[7] then
      redis.call('HSET', key, 'sharing', table.concat(sharing, ' '))
    end
    return 0, 0, workers
  end
  workers = workers + 1
  sharing[workers] = string.format('%s=%.0f', caller, math.floor(now))
  local tokens = tonumber(state[1]) or capacity
  if not (tokens >= 0 and tokens <= capacity) then -- also for one that is no number
    tokens = capacity
  end
  local at = tonumber(state[2]) or now
  tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
  -- A pause that is longer than any the worker asks for was written before the clock was put back.
  local pause = (tonumber(state[3]) or 0) - now
  if not (pause >= 0 and pause <= MOST_PAUSE) then
    pause = 0
  end
  local granted = math.min(wanted, pause > 0 and 0 or math.floor(tokens))
  tokens = math.min(capacity, tokens - granted)
  local wait = 0
  if granted == 0 then
    wait = math.ceil(math.max(pause, (1 - tokens) / rate))
  end
  local minute = math.floor(now / 60000)
  local used, before = tonumber(state[5]) or 0, tonumber(state[6]) or 0
  if not (used >= 0 and used < 1e15) then
    used = 0
  end
  local is_new = tonumber(state[4]) ~= minute
  if is_new then
    before = tonumber(state[4]) == minute - 1 and used or 0
    used = 0
  end
  redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.3f', now), 'rate', per_second,
    'minute', minute, 'used', math.max(0, used + granted), 'before', before, 'sharing', table.concat(sharing, ' '))
  if is_new then
    -- Longer than the bucket takes to be full again, beyond this minute: if it expired earlier, the next one would start
    -- full.
    redis.call('PEXPIRE', key, 60000 + math.ceil(math.min(math.max(60000, capacity / rate), 2592000000)))
  end
  return granted, wait, workers
end
