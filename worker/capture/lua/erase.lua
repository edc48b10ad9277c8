-- Removes entries of a stream for good, also from the pending entries of every group.
-- KEYS: stream, then the set of the replayed ids of each group (all of one hash tag)
-- ARGV: number of groups, the groups, in the order of those sets, then the ids of the entries
-- Returns how many entries there were.
-- Invariants: an entry that is gone is not pending either, so no consumer is handed one without its data, and a consumer
-- that has one in hand finds it taken away: it writes no dead letter with what it holds.
local groups = tonumber(ARGV[1])
local removed = 0
for at = groups + 2, #ARGV do
  for group = 1, groups do
    redis.call('XACK', KEYS[1], ARGV[group + 1], ARGV[at])
    redis.call('SREM', KEYS[group + 1], ARGV[at])
  end
  removed = removed + redis.call('XDEL', KEYS[1], ARGV[at])
end
return removed
