-- Returns the status of a stream and its groups. Begins with needs.lua.
-- Flags: no-writes, allow-oom
-- KEYS: stream
-- ARGV: limits on age (ms), number, bytes (0: no limit), as for trim.lua; '1' if only groups are of interest: the memory is 0
--   then, and so is the average without a group or a limit on bytes
-- Returns {entries, average bytes of an entry as text, used memory, maxmemory,
--   {name, first id needed, id delivered last, entries pending, lowest of them or '', entries unread,
--    first entry unread or '', entries held}, ... one for each group}
-- held: entries that exceed the limits and are kept because the group needs them.
-- Used memory is what Redis compares with maxmemory; both are 0 if INFO is not permitted.
-- Invariants: read-only. Numbers are computed from the field `sequence` of the entries, which has no gaps, in a few
-- lookups however long the stream is. They are too large after single entries were removed. If the field makes no sense
-- (it has started again, or there are foreign entries) the number is that of all entries but the first.
local stream = KEYS[1]
local age, most_entries, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local used, most = 0, 0
local info = ARGV[4] ~= '1' and redis.pcall('INFO', 'memory')
if type(info) == 'string' then
  most = tonumber(string.match(info, '\nmaxmemory:(%d+)') or 0)
  used = tonumber(string.match(info, '\nused_memory:(%d+)') or 0)
    - tonumber(string.match(info, '\nmem_not_counted_for_evict:(%d+)') or 0)
end

local length = redis.call('XLEN', stream)
if length == 0 and redis.call('EXISTS', stream) == 0 then
  return {0, '0', used, most}
end
local groups = groups_of(stream)
if ARGV[4] == '1' and #groups == 0 then
  return {length, '0', used, most}
end
local average = (ARGV[4] ~= '1' or most_bytes > 0) and average_of(stream) or 0
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]

-- Returns the number of entries from an id on (exclusive after '('), and the id of the first of them.
local function entries_from(id)
  local entry = redis.call('XRANGE', stream, id, '+', 'COUNT', 1)[1]
  if not entry then
    return 0, ''
  end
  if entry[1] == first[1] then
    return length, entry[1]
  end
  local _, its = measure(entry)
  local _, highest = measure(last)
  local count = its and highest and highest - its + 1 or 0
  if count < 1 or count >= length then
    return length - 1, entry[1]
  end
  return count, entry[1]
end

-- The number of entries that the limits keep.
local kept = length - too_many(length, average, most_entries, most_bytes)
if age > 0 then
  kept = math.min(kept, (entries_from(oldest_kept(age))))
end

local answer = {length, string.format('%.1f', average), used, most}
for _, group in ipairs(groups) do
  local name, needed, delivered, pending, lowest = unpack(group)
  local unread, oldest_unread = entries_from('(' .. delivered)
  local held = math.max(0, (entries_from(needed)) - kept)
  answer[#answer + 1] = {name, needed, delivered, pending, lowest, unread, oldest_unread, held}
end
return answer
