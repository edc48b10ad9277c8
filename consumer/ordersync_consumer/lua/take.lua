-- Claims pending entries for a consumer and returns them with their data.
-- Flags: allow-oom
-- KEYS: stream, set of the replayed ids
-- ARGV: group, consumer, then either
--   'idle', minimum idle time in ms, cursor, maximum number of entries: those of any consumer; or
--   'own', id, id, ...: those that are pending for this consumer; others are skipped
-- Returns {cursor to go on from ('0-0': the scan is finished), entries, ids that were removed from the stream}
--   an entry: {id, {name, value, ...}, deliveries so far, 1 if it was replayed else 0}
-- Invariants: an entry that was removed from the stream is acknowledged and its id returned; it is never returned
-- without data. The count of deliveries says how many attempts may have begun: a claim does not increase it, except
-- from 0 to 1, as when an entry is read for the first time.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local cursor, ids, gone = '0-0', {}, {}

if ARGV[3] == 'idle' then
  local claimed = redis.call('XAUTOCLAIM', stream, group, consumer, ARGV[4], ARGV[5], 'COUNT', ARGV[6], 'JUSTID')
  -- Redis from 7.0 on drops removed entries itself, and returns their ids as the third element.
  cursor, ids, gone = claimed[1], claimed[2], claimed[3] or {}
else
  for at = 4, #ARGV do
    ids[#ids + 1] = ARGV[at]
  end
end

local entries = {}
for _, id in ipairs(ids) do
  local pending = redis.call('XPENDING', stream, group, id, id, 1, consumer)[1]
  if pending then
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
      local count = pending[4]
      redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', math.max(count, 1), 'JUSTID')
      entries[#entries + 1] = {id, entry[2], count, redis.call('SISMEMBER', KEYS[2], id)}
    else
      gone[#gone + 1] = id
    end
  end
end
for _, id in ipairs(gone) do
  redis.call('XACK', stream, group, id)
  redis.call('SREM', KEYS[2], id)
end
return {cursor, entries, gone}
