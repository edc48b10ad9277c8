-- Makes entries that a group has acknowledged pending again, for any consumer of the group to claim.
-- Begins with groups.lua.
-- KEYS: stream, set of the replayed ids of the group
-- ARGV: group, reserved consumer that gets them, ms of idle time that they get, first id, last id (exclusive after
--   '('), maximum number of entries to scan, subject ('' for all), 1 to count only else 0
-- Returns {last id scanned ('' if there was none), entries scanned, replayed, pending already, last id of the range}
--      or {'no group'}; only entries of the subject are counted as replayed or pending.
-- Invariants: other groups are not affected, and nothing is added to the stream. Pending entries are skipped; unread
-- ones are out of range, because the group will read them. An entry is marked as replayed before it becomes pending.
local stream, replayed, group, reserved = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local last = last_delivered(stream, group)
if not last then
  return {'no group'}
end

-- The range ends at the requested id, or at the last entry that the group has read, whichever comes first.
local ends = ARGV[5]
if ends == '+' or #redis.call('XRANGE', stream, '(' .. last, ends, 'COUNT', 1) > 0 then
  ends = last
end
local scanned, again, pending = 0, 0, 0
local at = ''
for _, entry in ipairs(redis.call('XRANGE', stream, ARGV[4], ends, 'COUNT', ARGV[6])) do
  local id, fields = entry[1], entry[2]
  local matches = ARGV[7] == ''
  for field = 1, #fields, 2 do
    if fields[field] == 'subject' and fields[field + 1] == ARGV[7] then
      matches = true
    end
  end
  if matches then
    if #redis.call('XPENDING', stream, group, id, id, 1) > 0 then
      pending = pending + 1
    else
      if ARGV[8] == '0' then
        redis.call('SADD', replayed, id)
        redis.call('XCLAIM', stream, group, reserved, 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
      end
      again = again + 1
    end
  end
  scanned, at = scanned + 1, id
end
return {at, scanned, again, pending, ends}
