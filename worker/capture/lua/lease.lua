-- A lease with a fencing number, by the server's clock. Begins with leases.lua.
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
local fence, owner, ends = lease_at(KEYS[1])
local caller, ms = ARGV[2], tonumber(ARGV[3])
if ARGV[1] == 'acquire' then
  local left = held_for(KEYS[1], caller, owner, ends, now, ms)
  if left > 0 then
    return {0, owner, left}
  end
  return {give(KEYS[1], caller, fence, owner, now, ms), '', 0}
end
if owner ~= caller then
  return {0, owner, 0}
end
if ARGV[1] == 'renew' then
  redis.call('HSET', KEYS[1], 'until', now + ms)
else
  redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
end
return {fence, '', 0}
