-- Stores a new token unless somebody else stored another one meanwhile, and gives the lock back.
-- KEYS: token, lock    ARGV: new token, token it replaces ('' for none), owner of the lock, lifetime in ms
-- Returns the token that is in force now.
-- Invariants: a token newer than the one replaced is never overwritten; only the owner's lock is deleted.
local stored = redis.call('GET', KEYS[1]) or ''
if stored == ARGV[2] or stored == '' then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
  stored = ARGV[1]
end
if redis.call('GET', KEYS[2]) == ARGV[3] then
  redis.call('DEL', KEYS[2])
end
return stored
