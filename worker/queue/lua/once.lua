-- Runs the commands of an event, unless that was done before.
-- KEYS: mark of the event
-- ARGV: msgpack of a list of commands, each a list of arguments; seconds for which the mark is kept
-- Returns 1 if they ran, 0 if they had run before.
-- Invariants: the mark is written last, so it never exists for an effect that failed. As in MULTI, the commands before
-- one that fails are not undone; the event is then delivered again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
for _, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  redis.call(unpack(command))
end
redis.call('SET', KEYS[1], '1', 'EX', ARGV[2])
return 1
