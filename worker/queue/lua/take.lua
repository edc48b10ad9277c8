-- Takes entries that are pending already into the hands of a consumer, with their data.
-- KEYS: stream, set of the replayed ids
-- ARGV: group, consumer, then either
--   'idle', ms for which nobody has touched an entry, cursor, most entries to take: whoever has them; or
--   'own', id, id, ...: those that are the consumer's own; others are left alone
-- Returns {cursor to go on from ('0-0': every entry has been looked at), entries, ids whose data is gone}
--   an entry: {id, {name, value, ...}, deliveries so far, 1 if it was replayed else 0}
-- Invariants: an entry whose data is gone is acknowledged and named, and never handed out empty. The count of
-- deliveries tells how often an entry may have been begun: to take it does not raise it, but from 0, as for an
-- entry that is read for the first time.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local cursor, ids, gone = '0-0', {}, {}

if ARGV[3] == 'idle' then
  local claimed = redis.call('XAUTOCLAIM', stream, group, consumer, ARGV[4], ARGV[5], 'COUNT', ARGV[6], 'JUSTID')
  -- Redis from 7.0 drops what has no data by itself, and names it in a third part.
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
