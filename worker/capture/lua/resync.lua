-- Writes fields of a resync, unless it is over or nobody remembers it: then a worker has nothing to say of it.
-- KEYS: the resync (hash)    ARGV: names and values
-- Returns 1, or 0 if nothing was written.
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'done' or state == 'cancelled' then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
