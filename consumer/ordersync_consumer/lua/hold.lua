-- Renews the claim of a consumer on entries, and stores how often they were delivered.
-- Flags: allow-oom
-- KEYS: stream, lock on the consumer's name
-- ARGV: group, consumer, token of this process, ms for which the lock is renewed, then for each entry
--   id, count of deliveries ('' to leave it unchanged)
-- Returns {'ok', ids that are not pending for the consumer any more, ids that were removed from the stream}
--      or {'replaced'}: another process consumes under this name; nothing was changed.
-- Fails with NOGROUP if the group does not exist and the lock is gone.
-- Invariants: an entry that another consumer has claimed or acknowledged is not claimed back. Redis from 7.0 on drops
-- an entry that was removed from the stream from the pending ones, so only the caller has it from then on. Needs no
-- memory, so that it works when Redis is full.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local token = redis.call('GET', KEYS[2])
if token and token ~= ARGV[3] then
  return {'replaced'}
end
if token then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
else
  redis.call('XPENDING', stream, group) -- the lock may be gone with the group, which fails here
  redis.pcall('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
end

local lost, gone = {}, {}
for at = 5, #ARGV, 2 do
  local id, count = ARGV[at], ARGV[at + 1]
  local pending = redis.call('XPENDING', stream, group, id, id, 1, consumer)[1]
  if not pending then
    lost[#lost + 1] = id
  else
    count = count == '' and pending[4] or count
    local kept = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', count, 'JUSTID')
    if #kept == 0 then
      gone[#gone + 1] = id
    end
  end
end
return {'ok', lost, gone}
