-- Removes the oldest entries of a stream that exceed its limits and that no group needs.
-- Begins with needs.lua.
-- KEYS: stream
-- ARGV: limits on age (ms), number, bytes (0: no limit); about how many entries to remove in this call
-- Returns {entries removed, 1 if another call would remove more}
-- Invariants: an entry that is pending in a group, or that a group has not read, is never removed, whatever the
-- limits; that is determined in the same step, so no other client can interfere. Only a prefix of the stream is
-- removed. A stream without groups is trimmed by its limits alone. Needs no memory, so it works when Redis is full.
-- Bytes are those of names and values: the average of some entries, times their number (see needs.lua).
local stream, step = KEYS[1], tonumber(ARGV[4])
local age, most_entries, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local length = redis.call('XLEN', stream)
if length == 0 then
  return {0, 0}
end

local safe = next_id(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1])
for _, group in ipairs(groups_of(stream)) do
  if before(group[2], safe) then
    safe = group[2]
  end
end

-- Removes at most `limit` entries below `id`: whole nodes of the stream first, which is quick and bounded; then the
-- rest, which is less than a node.
local function remove(id, limit)
  local removed = redis.call('XTRIM', stream, 'MINID', '~', id, 'LIMIT', limit)
  if removed == 0 then
    removed = redis.call('XTRIM', stream, 'MINID', '=', id)
  end
  return removed
end

local oldest = oldest_kept(age)
local removed = remove(before(oldest, safe) and oldest or safe, step)
if removed > 0 then
  return {removed, 1}
end

local average = most_bytes > 0 and average_of(stream) or 0
local over = math.min(step, too_many(length, average, most_entries, most_bytes))
if over > 0 then
  removed = redis.call('XTRIM', stream, 'MINID', '~', safe, 'LIMIT', over)
  if removed == 0 then
    -- Less than a node is left: the entry that will be the first one is near.
    local first = redis.call('XRANGE', stream, '-', '(' .. safe, 'COUNT', over + 1)
    removed = redis.call('XTRIM', stream, 'MINID', '=', first[over + 1] and first[over + 1][1] or safe)
  end
end
return {removed, removed > 0 and 1 or 0}
