-- Stores the layout of this version, in a session that has found another one or none, and takes the leases of all other
-- sessions, which may have checked an earlier one.
-- KEYS: layout, own lease, other leases (all of one hash tag)    ARGV: fence of the own lease, layout of this version
-- Returns 'done', or 'fenced' if the lease has gone to somebody else.
-- Invariants: a session that was frozen, and has lost its lease meanwhile, writes nothing; what a session commits that has
-- checked an earlier layout is refused from then on. Where there was none, nobody can have checked another one.
local stored = redis.call('GET', KEYS[1])
if redis.call('HGET', KEYS[2], 'fence') ~= ARGV[1] then
  return 'fenced'
end
if stored and stored ~= ARGV[2] then
  for at = 3, #KEYS do
    redis.call('HINCRBY', KEYS[at], 'fence', 1)
    redis.call('HSET', KEYS[at], 'owner', '', 'until', 0)
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 'done'
