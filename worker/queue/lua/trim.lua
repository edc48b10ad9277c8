-- Removes the oldest entries of a stream, as far as its limits do not keep them and no group needs them.
-- Begins with needs.lua.
-- KEYS: stream
-- ARGV: limits on age (ms), number, bytes (0: no limit); about how many entries to remove in this call
-- Returns {entries removed, 1 if another call would remove more}
-- Invariants: what a group still needs is worked out and respected in the same step, so nobody can come between:
-- an entry that is pending in a group, or that a group has not read, is never removed, whatever the limits say.
-- Nothing but a prefix of the stream is removed. A stream without groups is trimmed by its limits alone.
-- Needs no memory, so that it works when Redis is full.
-- Bytes are those of names and values: the average of some entries, times their number (see needs.lua).
local stream, step = KEYS[1], tonumber(ARGV[4])
local age, most_entries, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local length = redis.call('XLEN', stream)
if length == 0 then
  return {0, 0}
end

local safe = behind(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1])
for _, group in ipairs(groups_of(stream)) do
  if before(group[2], safe) then
    safe = group[2]
  end
end

-- Removes entries below `id`, `most` at most. Whole nodes of the stream go first, which is quick and bounded;
-- what is left of the last node is no more than a node holds.
local function remove(id, most)
  local removed = redis.call('XTRIM', stream, 'MINID', '~', id, 'LIMIT', most)
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
    -- Fewer than a node holds: the entry that is to be the first one is near.
    local first = redis.call('XRANGE', stream, '-', '(' .. safe, 'COUNT', over + 1)
    removed = redis.call('XTRIM', stream, 'MINID', '=', first[over + 1] and first[over + 1][1] or safe)
  end
end
return {removed, removed > 0 and 1 or 0}
