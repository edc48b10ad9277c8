-- Makes a dead letter of an event that a group could not handle, and acknowledges it: both or nothing.
-- `ordersync dead` lists, replays and drops it like those of the consumer kit.
-- KEYS: the stream, the stream of dead letters (ordersync:{ACCOUNT}:dead:RESOURCE)
-- ARGV: group, consumer, id of the entry, number of attempts, reason, time (RFC 3339)
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if entry then -- else it was removed from the stream
  local letter = {'kind', 'delivery', 'reason', ARGV[5], 'subject', '', 'where', ARGV[3], 'time', ARGV[6],
    'group', ARGV[1], 'consumer', ARGV[2], 'attempts', ARGV[4], 'trace', ''}
  for at = 1, #entry[2], 2 do
    local name, value = entry[2][at], entry[2][at + 1]
    letter[#letter + 1] = name == 'data' and name or 'event.' .. name
    letter[#letter + 1] = value
    if name == 'subject' then
      letter[6] = value
    end
  end
  redis.call('XADD', KEYS[2], '*', unpack(letter))
end
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
