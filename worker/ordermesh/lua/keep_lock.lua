-- Extends a lock if it still belongs to its owner.
-- KEYS: lock    ARGV: owner, milliseconds
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
