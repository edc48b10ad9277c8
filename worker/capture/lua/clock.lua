-- Notes the time of this server, and by how much its clock was put back in all.
-- KEYS: hash: seen (the latest time), back (seconds), since (which count this is: Redis may lose the hash)
-- Returns 'SINCE BACK': that count, and the seconds by which the clock was put back so far.
-- Invariants: of several callers one adds a difference; a count never falls.
local NOISE = 1
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local state = redis.call('HMGET', KEYS[1], 'seen', 'back', 'since')
local seen, back = tonumber(state[1]) or 0, tonumber(state[2]) or 0
if not (seen < now + 1e10) then -- not written by this script
  seen = 0
end
if not (back >= 0 and back < 1e10) then
  back = 0
end
if seen - now >= NOISE then
  back = back + seen - now
  redis.call('HSET', KEYS[1], 'back', string.format('%.6f', back))
end
local since = string.match(state[3] or '', '^%d+%.%d+$') or string.format('%.6f', now)
redis.call('HSET', KEYS[1], 'seen', string.format('%.6f', now), 'since', since)
return since .. ' ' .. string.format('%.6f', back)
