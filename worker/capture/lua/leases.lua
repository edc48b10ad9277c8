-- Functions that other scripts use: they read and give leases (see lease.lua).

-- Returns the fence of a lease, its owner ('' for none), and when it ends (ms since 1970).
local function lease_at(key)
  local held = redis.call('HMGET', key, 'fence', 'owner', 'until')
  local fence, owner, ends = tonumber(held[1]) or 0, held[2] or '', tonumber(held[3]) or 0
  if not (fence >= 0 and fence < 2 ^ 53 - 1) then -- not written by these functions
    fence = 0
  end
  return fence, owner, ends
end

-- Returns for how many ms somebody other than `caller` holds a lease that was read at `now`; 0 if nobody does. Nobody
-- holds it for longer than `ms`, also where the clock was put back since.
local function held_for(key, caller, owner, ends, now, ms)
  if owner == '' or owner == caller or ends <= now then
    return 0
  end
  if ends > now + ms then
    ends = now + ms
    redis.call('HSET', key, 'until', ends)
  end
  return ends - now
end

-- Gives a lease that nobody else holds to `caller`, for `ms`. Returns its fence.
local function give(key, caller, fence, owner, now, ms)
  if owner ~= caller then
    fence = math.max(fence + 1, now)
  end
  redis.call('HSET', key, 'fence', fence, 'owner', caller, 'until', now + ms)
  return fence
end
