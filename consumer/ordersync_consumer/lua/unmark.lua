-- Removes the marks of replayed entries that are not pending any more.
-- Flags: allow-oom
-- KEYS: stream, set of the replayed ids of the group
-- ARGV: group, cursor ('0' to begin), about how many marks to check
-- Returns the cursor to go on from; '0': all were checked.
-- Invariants: the mark of an entry that is pending stays.
if redis.call('EXISTS', KEYS[2]) == 0 then
  return '0'
end
local there = redis.call('EXISTS', KEYS[1]) == 1
local found = redis.call('SSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
for _, id in ipairs(found[2]) do
  local pending = there and redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1) or {}
  if pending.err or #pending == 0 then
    redis.call('SREM', KEYS[2], id)
  end
end
return found[1]
