-- Runs the commands of an event, unless that was done before.
-- KEYS: mark of the event
-- ARGV: seconds for which the mark is kept; then for each command the number of its words, and the words
-- Returns 1 if they ran, 0 if they had run before.
-- Invariants: the mark is written last, so it never exists for an effect that failed. As in MULTI, the commands before
-- one that fails are not undone; the event is then delivered again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local at = 2
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return 1
