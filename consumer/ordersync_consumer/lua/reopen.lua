-- Delivers the event of a dead letter to its group again.
-- Begins with groups.lua.
-- KEYS: stream, dead letters, set of the replayed ids of the group
-- ARGV: group, id of the letter, id of the entry, reserved consumer that gets it, ms of idle time that it gets
-- Returns 'ok', or why not: 'no letter', 'no group', 'trimmed' (the entry is not kept any more), 'unread' (the
-- group has not read the entry yet, and will).
-- Invariants: in one step the entry becomes pending again and the letter is removed, so there is always one of the
-- two. Nothing is added to the stream.
local stream, group, id = KEYS[1], ARGV[1], ARGV[3]
if #redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2]) == 0 then
  return 'no letter'
end
local last = last_delivered(stream, group)
if not last then
  return 'no group'
end
if #redis.call('XRANGE', stream, id, id) == 0 then
  return 'trimmed'
end
local first = redis.call('XRANGE', stream, id, last, 'COUNT', 1)[1]
if not first or first[1] ~= id then
  return 'unread'
end
if #redis.call('XPENDING', stream, group, id, id, 1) == 0 then
  redis.call('SADD', KEYS[3], id)
  redis.call('XCLAIM', stream, group, ARGV[4], 0, id, 'IDLE', ARGV[5], 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
end
redis.call('XDEL', KEYS[2], ARGV[2])
return 'ok'
