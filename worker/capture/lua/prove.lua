-- Notes how far reconciliation has come: all of it or nothing.
-- KEYS: lease, reconcile (hash), gaps (hash), coverage (stream), cursor of the resource (all of one hash tag)
-- ARGV[1]: msgpack of
--   {fence, fields of reconcile, gaps to keep, ids of gaps that are closed, entry of coverage, most entries to keep,
--    gaps that count for the health of the resource}; fields, gaps and entry are flat lists of names and values
-- Returns {'ok'}, or {'fenced', fence in force}: the lease has gone to somebody else, and nothing was written.
-- Invariants: nothing is written unless the fence is in force; of the cursor, which belongs to polls, only the number
-- of gaps is set, and only where there is one.
local note = cmsgpack.unpack(ARGV[1])
local in_force = redis.call('HGET', KEYS[1], 'fence')
if in_force ~= note[1] then
  return {'fenced', in_force or ''}
end
-- Reading every key first also finds one of a wrong type before anything has been written.
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
local known = redis.call('HLEN', KEYS[5])
if #note[4] > 0 then
  redis.call('HDEL', KEYS[3], unpack(note[4]))
end
if #note[3] > 0 then
  redis.call('HSET', KEYS[3], unpack(note[3]))
end
if #note[5] > 0 then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', note[6], '*', unpack(note[5]))
end
if known > 0 then
  redis.call('HSET', KEYS[5], 'gaps', note[7])
end
redis.call('HSET', KEYS[2], unpack(note[2]))
return {'ok'}
