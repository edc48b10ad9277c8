-- Lets the next read look again at a record that was parked as unreadable.
-- KEYS: one of the state hashes of the resource
-- ARGV: packed id under which the record is remembered
-- Returns 1 if it was remembered, 0 if not.
-- Invariants: of the state only the raw fingerprint is replaced, by one that no record has: the record looks
-- changed, and is compared with what was published last, as before. The number of records tracked stays right.
local state = redis.call('HGET', KEYS[1], ARGV[1])
if not state then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], string.rep('\0', 8) .. string.sub(state, 9))
return 1
