-- Gives a job that has ended its next due time. Begins with claims.lua.
-- KEYS: schedule of its lane (sorted set: job, due time)    ARGV: job, due time; '' to remove it
-- Returns 1 if somebody wanted to bring it forward while it was claimed, else 0.
local asked = is_asked_for(tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0))
if ARGV[2] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
return asked and 1 or 0
