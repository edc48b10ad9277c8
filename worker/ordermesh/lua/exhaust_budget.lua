-- Grants no request of an account for a while: the gateway has said that it permits none until then.
-- KEYS: bucket (hash)
-- ARGV: milliseconds
-- Invariant: it is never shortened, so the order in which the responses of several workers arrive does not matter.
local MOST_PAUSE = 30000 -- one that is longer was written before the clock was put back
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local ends = now + tonumber(ARGV[1])
local before = tonumber(redis.call('HGET', KEYS[1], 'exhausted_until')) or 0
if not (before >= ends and before <= now + MOST_PAUSE) then
  redis.call('HSET', KEYS[1], 'exhausted_until', string.format('%.3f', ends))
  if redis.call('PTTL', KEYS[1]) < 60000 then
    redis.call('PEXPIRE', KEYS[1], 60000)
  end
end
