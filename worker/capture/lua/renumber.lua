-- Begins a new generation of the numbers of a source, after Redis has lost some that were given out.
-- KEYS: cursor
-- ARGV: the generation that the caller has seen, the highest sequence that it knows to be given out, '1' to delete the
--   other fields of the cursor, else '', then names and values of further fields
-- Returns {generation, sequence that Redis held}; {'', ''} if another worker has begun one meanwhile.
-- Invariants: the sequence and every version go on above the generation, which is never below the time (ms since 1970),
-- so that numbers that were given out and lost, whether somebody knows of them or not, are not given out again.
local held = redis.call('HMGET', KEYS[1], 'sequence', 'generation')
local sequence, generation = tonumber(held[1] or 0), tonumber(held[2] or 0)
if (held[2] or '0') ~= ARGV[1] then
  return {'', ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new = string.format('%.0f', math.max(now, generation + 1, sequence + 1, ARGV[2] + 1))
if ARGV[3] ~= '' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'generation', new, 'sequence', new, unpack(ARGV, 4))
return {new, string.format('%.0f', sequence)}
