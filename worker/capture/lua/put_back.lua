-- Moves times that were written before the clock of this server was put back: what waits for its time waits no longer
-- for that, and what is known to be old does not look younger.
-- KEYS: what was followed so far (string), then sorted sets: member, due time; then hashes, the cursors
--   (all of one hash tag)
-- ARGV: by how much the clock was put back so far (the result of clock.lua), number of sorted sets, then fields of the
--   cursors: times in the past
-- Returns the seconds by which the due times were moved, as text; '0' if they were not.
-- Invariants: of several callers one moves the times, by the whole difference, also if one comes with an older result than
-- another; due times keep their order; a time in the past gets no later than it was by the new clock.
local NOISE = 1
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local queues = tonumber(ARGV[2])
local count, total = string.match(ARGV[1], '^(%S+) (%S+)$')
local last_count, followed = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+)$')
if count ~= last_count then -- the first call, or another count: nothing is known to be wrong
  redis.call('SET', KEYS[1], ARGV[1])
  return '0'
end
local back = tonumber(total) - (tonumber(followed) or 0)
if back < NOISE then
  return '0'
end
redis.call('SET', KEYS[1], ARGV[1])
for at = 2, queues + 1 do
  local waiting = redis.call('ZRANGEBYSCORE', KEYS[at], string.format('(%.6f', now), '+inf', 'WITHSCORES')
  for place = 1, #waiting, 2 do
    redis.call('ZADD', KEYS[at], string.format('%.6f', waiting[place + 1] - back), waiting[place])
  end
end
for at = queues + 2, #KEYS do
  for number = 3, #ARGV do
    local was = tonumber(redis.call('HGET', KEYS[at], ARGV[number]) or '') or 0
    if was > 0 then
      -- The clock is looked at once a second, so it may have been put back by as much more.
      redis.call('HSET', KEYS[at], ARGV[number], string.format('%.6f', math.max(was - back - 1, 1)))
    end
  end
end
return string.format('%.3f', back)
