-- Notes how far reconciliation has come: all of it or nothing. Begins with chain.lua.
-- KEYS: lease, reconcile (hash), gaps (hash), coverage (stream), cursor of the resource (all of one hash tag)
-- ARGV[1]: msgpack of
--   {fence, id of this note, fields of reconcile, gaps to keep, ids of gaps that are closed, entry of coverage, most
--    entries to keep, gaps that count for the health of the resource}; fields, gaps and entry are flat lists of names and
--    values
-- Returns {'ok'}, also for a note that was written before and whose answer was lost
--      or {'fenced', fence in force}: the lease has gone to somebody else, or its holder has written something after this
--        note; nothing was written.
-- Invariants: nothing is written unless the fence is in force; a note that is sent twice is written once, also where a
-- copy is delayed until others are written: its id is kept with the lease, as that of a commit (commit.lua); of the
-- cursor, which belongs to polls, only the number of gaps is set, and only where there is one.
local fence, this, fields, opened, closed, entry, most, counted = unpack(cmsgpack.unpack(ARGV[1]))
local lease = redis.call('HMGET', KEYS[1], 'fence', 'commit')
if lease[1] ~= fence or is_overtaken(this, lease[2]) then
  return {'fenced', lease[1] or ''}
end
if lease[2] == this then
  return {'ok'}
end
-- Reading every key first also finds one of a wrong type before anything has been written.
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
local known = redis.call('HLEN', KEYS[5])
if #closed > 0 then
  redis.call('HDEL', KEYS[3], unpack(closed))
end
if #opened > 0 then
  redis.call('HSET', KEYS[3], unpack(opened))
end
if #entry > 0 then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', most, '*', unpack(entry))
end
redis.call('HSET', KEYS[1], 'commit', this)
if known > 0 then
  redis.call('HSET', KEYS[5], 'gaps', counted)
end
redis.call('HSET', KEYS[2], unpack(fields))
return {'ok'}
