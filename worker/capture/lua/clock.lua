-- Notes the time of this server, and by how much its clock was put back in all.
-- KEYS: hash: seen (the latest time), back (seconds)
-- Returns the seconds by which the clock was put back so far, as text.
-- Invariant: of several callers one adds a difference.
local NOISE = 1
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local state = redis.call('HMGET', KEYS[1], 'seen', 'back')
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
redis.call('HSET', KEYS[1], 'seen', string.format('%.6f', now))
return string.format('%.6f', back)
