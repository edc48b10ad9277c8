-- Takes permits for requests from the budget that all workers of an account share, or gives them back. Begins with
-- permits.lua.
-- KEYS: bucket (hash)
-- ARGV: requests per second, capacity, number of requests, name of the worker, as in permits.lua
-- Returns {granted requests, milliseconds to wait if none was granted, workers that called in the last 5 s}.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
return {take_permits(KEYS[1], now, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4])}
