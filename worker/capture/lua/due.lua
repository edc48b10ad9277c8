-- What is due to be read, and the time by this server's clock at which that was so.
-- KEYS: due (sorted set: member, since when)    ARGV: most members, seconds that a member waits at most
-- A member whose time is further ahead than that is due now: the clock was put back since it was added.
-- Returns {time, members...}: half of them due the longest, half due last, so that neither a backlog nor what is
-- changing now has to wait for the other.
local time = redis.call('TIME')
local now = string.format('%.6f', time[1] + time[2] / 1000000)
local most = tonumber(ARGV[1])
local latest = string.format('(%.6f', now + ARGV[2])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], latest, '+inf')) do
  redis.call('ZADD', KEYS[1], now, member)
end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, most)
if #found == most then
  local half = math.floor(most / 2)
  local taken = {}
  for at = 1, most - half do
    taken[found[at]] = true
  end
  for _, member in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], now, '-inf', 'LIMIT', 0, half)) do
    taken[member] = true
  end
  found = {}
  for member in pairs(taken) do
    found[#found + 1] = member
  end
  table.sort(found)
end
return {now, unpack(found)}
