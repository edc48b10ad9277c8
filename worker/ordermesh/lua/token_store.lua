-- Stores a new token unless another worker has stored one meanwhile, and releases the lock.
-- KEYS: token, lock    ARGV: new token, token that it replaces ('' for none), owner of the lock, lifetime in ms
-- Returns the stored token.
-- Invariants: a token newer than the replaced one is never overwritten; a lock is deleted only for its owner.
local stored = redis.call('GET', KEYS[1]) or ''
if stored == ARGV[2] or stored == '' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
  stored = ARGV[1]
end
if redis.call('GET', KEYS[2]) == ARGV[3] then
  redis.call('DEL', KEYS[2])
end
return stored
