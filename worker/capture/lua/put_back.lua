-- Moves what waits for its time when the clock of this server was put back, so that it waits no longer for that.
-- KEYS: the latest time that was seen (string), then sorted sets: member, due time (all of one hash tag)
-- Returns the seconds by which the clock was put back since the last call, as text; '0' if it was not.
-- Invariants: of several callers one moves the due times, by the whole difference; they keep their order.
local NOISE = 1
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local back = tonumber(redis.call('GET', KEYS[1]) or '0') - now
redis.call('SET', KEYS[1], string.format('%.6f', now))
if back < NOISE then
  return '0'
end
for at = 2, #KEYS do
  local waiting = redis.call('ZRANGEBYSCORE', KEYS[at], string.format('(%.6f', now), '+inf', 'WITHSCORES')
  for place = 1, #waiting, 2 do
    redis.call('ZADD', KEYS[at], string.format('%.6f', waiting[place + 1] - back), waiting[place])
  end
end
return string.format('%.3f', back)
