-- Takes permits for requests from the budget that all workers of an account share: a token bucket.
-- KEYS: bucket (hash), workers (sorted set)
-- ARGV: requests per second, capacity, number of requests, name of the worker
-- Returns {granted requests, milliseconds to wait if none was granted, workers that called in the last 5 s}.
-- None is granted until `exhausted_until` (exhaust_budget.lua), 30 s at most.
-- It also stores the rate, and the number of requests granted in this minute of the clock (`minute`, counted since
-- 1970) and in the previous one, to report the use of the budget.
-- Invariant: in any span of s seconds at most capacity + s * rate requests are granted.
local MOST_PAUSE = 30000
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local rate = tonumber(ARGV[1]) / 1000
local capacity = tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'exhausted_until')
local tokens = tonumber(state[1]) or capacity
local at = tonumber(state[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
-- A pause that is longer than any the worker asks for was written before the clock was put back.
local pause = (tonumber(state[3]) or 0) - now
if pause < 0 or pause > MOST_PAUSE then
  pause = 0
end
local granted = pause > 0 and 0 or math.min(tonumber(ARGV[3]), math.floor(tokens))
tokens = tokens - granted
local wait = 0
if granted == 0 then
  wait = math.ceil(math.max(pause, (1 - tokens) / rate))
end
local minute = math.floor(now / 60000)
local counted = redis.call('HMGET', KEYS[1], 'minute', 'used')
local used, before = tonumber(counted[2]) or 0, nil
if tonumber(counted[1]) ~= minute then
  before = tonumber(counted[1]) == minute - 1 and used or 0
  used = 0
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.3f', now),
  'rate', ARGV[1], 'minute', minute, 'used', used + granted)
if before then
  redis.call('HSET', KEYS[1], 'before', before)
end
-- The bucket expires when it is full again: if it expired earlier, the next one would start full.
redis.call('PEXPIRE', KEYS[1], math.ceil(math.min(math.max(60000, capacity / rate), 2592000000)))
redis.call('ZADD', KEYS[2], now, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 5000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.17g', now), '+inf') -- from before the clock was put back
redis.call('PEXPIRE', KEYS[2], 60000)
return {granted, wait, redis.call('ZCARD', KEYS[2])}
