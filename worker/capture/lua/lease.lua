-- A lease with a fencing number, by the server's clock.
-- KEYS: lease (hash: fence, owner, until in ms)
-- ARGV: 'acquire' | 'renew' | 'release', owner, ms
-- Returns acquire: {fence, '', 0} or {0, owner, ms left}; renew, release: {fence or 0, '', 0}.
-- Invariants: the fence only grows with each new holder, and outlives every lease; it is never below the time,
-- so that one that was given out before Redis lost its last writes is not given out again; only the holder
-- renews and releases; a holder may renew late as long as nobody else has come; one that asks again, since it
-- did not get the answer, holds it; nobody holds it for longer than ms from now without renewing it, also where the
-- clock was put back since.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'until')
local fence, owner, ends = tonumber(held[1] or 0), held[2] or '', tonumber(held[3] or 0)
if ARGV[1] == 'acquire' then
  if owner ~= '' and owner ~= ARGV[2] and ends > now then
    if ends > now + ARGV[3] then
      ends = now + ARGV[3]
      redis.call('HSET', KEYS[1], 'until', ends)
    end
    return {0, owner, ends - now}
  end
  if owner ~= ARGV[2] then
    fence = math.max(fence + 1, now)
  end
  redis.call('HSET', KEYS[1], 'fence', fence, 'owner', ARGV[2], 'until', now + ARGV[3])
  return {fence, '', 0}
end
if owner ~= ARGV[2] then
  return {0, owner, 0}
end
if ARGV[1] == 'renew' then
  redis.call('HSET', KEYS[1], 'until', now + ARGV[3])
else
  redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
end
return {fence, '', 0}
