-- Puts entries that a group has dealt with back among its pending ones, for any consumer of it to claim.
-- Begins with groups.lua.
-- KEYS: stream, set of the replayed ids of the group
-- ARGV: group, consumer that stands for nobody, ms that the entries seem to have lain idle, first id, last id
--   ('(' before it: without it), most entries to look at, subject ('' for all), 1 to count only else 0
-- Returns {last id looked at ('': none), entries looked at, put back, pending already, last id to look at}
--      or {'no group'}; of those looked at, only the ones of the subject are counted as put back or pending.
-- Invariants: other groups see nothing of it, and nothing is added to the stream. An entry that is pending is
-- left to whoever has it; one that the group has not read yet comes anyway. What was put back is marked first.
local stream, replayed, group, nobody = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local last = last_delivered(stream, group)
if not last then
  return {'no group'}
end

-- The end is the one that was asked for, or the last entry that the group has read, whichever comes first.
local ends = ARGV[5]
if ends == '+' or #redis.call('XRANGE', stream, '(' .. last, ends, 'COUNT', 1) > 0 then
  ends = last
end
local seen, back, pending = 0, 0, 0
local at = ''
for _, entry in ipairs(redis.call('XRANGE', stream, ARGV[4], ends, 'COUNT', ARGV[6])) do
  local id, fields = entry[1], entry[2]
  local wanted = ARGV[7] == ''
  for field = 1, #fields, 2 do
    if fields[field] == 'subject' and fields[field + 1] == ARGV[7] then
      wanted = true
    end
  end
  if wanted then
    if #redis.call('XPENDING', stream, group, id, id, 1) > 0 then
      pending = pending + 1
    else
      if ARGV[8] == '0' then
        redis.call('SADD', replayed, id)
        redis.call('XCLAIM', stream, group, nobody, 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
      end
      back = back + 1
    end
  end
  seen, at = seen + 1, id
end
return {at, seen, back, pending, ends}
