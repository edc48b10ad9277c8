-- Writes a dead letter for an entry that a consumer gives up, and acknowledges the entry.
-- KEYS: stream, dead letters, set of the replayed ids of the group
-- ARGV: group, consumer, id of the entry, 1 if the entry was removed from the stream and from the pending entries,
--   else 0, number of values that follow and belong to the letter, these (name, value, ...), then the event as the
--   consumer knows it (name, value, ...), which is used if the entry was removed
-- Returns the id of the letter, or '' if the entry is not pending for the consumer: its letter was written before, or
-- another consumer has claimed it.
-- Invariants: one letter per entry, however often this is called; the letter is written first, so that an entry is
-- acknowledged only after its letter is written. The event is kept complete: `data` under its own name, every other
-- field as `event.NAME`.
local stream, group, id = KEYS[1], ARGV[1], ARGV[3]
if ARGV[4] == '0' and #redis.call('XPENDING', stream, group, id, id, 1, ARGV[2]) == 0 then
  return ''
end

local letter, known = {}, 6 + tonumber(ARGV[5])
for at = 6, known - 1 do
  letter[#letter + 1] = ARGV[at]
end
local entry = redis.call('XRANGE', stream, id, id)[1]
local event = entry and entry[2] or {}
if not entry then
  for at = known, #ARGV do
    event[#event + 1] = ARGV[at]
  end
end
for at = 1, #event, 2 do
  letter[#letter + 1] = event[at] == 'data' and 'data' or 'event.' .. event[at]
  letter[#letter + 1] = event[at + 1]
end

local written = redis.call('XADD', KEYS[2], '*', unpack(letter))
redis.call('XACK', stream, group, id)
redis.call('SREM', KEYS[3], id)
return written
