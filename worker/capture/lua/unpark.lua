-- Lets the next read look again at a record that was parked as unreadable, and removes the request for it.
-- KEYS: one of the state hashes of the resource, the set of requests, the cursor of the resource
-- ARGV: packed id under which the record is remembered ('' if there is no state), member of the set, a name of this
--   change of a state that no other has
-- Returns 1 if it was remembered, 0 if not, or if it was erased.
-- Invariants: of the state only the raw fingerprint is replaced, by one that no record has: the record looks
-- changed, and is compared with what was published last, as before. The number of records tracked stays right. The
-- cursor names this change as it does a commit: what somebody holds of the states is worth nothing any more. The
-- request is removed last, so it is never lost.
local state = ARGV[1] ~= '' and redis.call('HGET', KEYS[1], ARGV[1])
local known = state and string.sub(state, 1, 8) ~= '\0erased\0'
if known then
  redis.call('HSET', KEYS[1], ARGV[1], string.rep('\0', 8) .. string.sub(state, 9))
  redis.call('HSET', KEYS[3], 'committed', ARGV[3])
end
redis.call('SREM', KEYS[2], ARGV[2])
return known and 1 or 0
