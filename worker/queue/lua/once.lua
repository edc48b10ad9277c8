-- Does what an event asks for, unless it has been done.
-- KEYS: mark of the event
-- ARGV: msgpack of a list of commands, each a list of words; seconds for which the mark is kept
-- Returns 1 if it was done, 0 if it had been done before.
-- Invariants: the mark is written last, so it never stands for an effect that failed. As in MULTI, what came
-- before a command that fails is not taken back; the event then comes again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
for _, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  redis.call(unpack(command))
end
redis.call('SET', KEYS[1], '1', 'EX', ARGV[2])
return 1
