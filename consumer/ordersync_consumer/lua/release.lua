-- Gives entries back, so that any consumer of the group may claim them at once.
-- Flags: allow-oom
-- KEYS: stream, lock on the consumer's name
-- ARGV: group, consumer, token of this process, reserved consumer that gets them, ms of idle time that they get,
--   how many more to give back, then for each entry: id, how often it was delivered
-- Returns {how many more were given back, ids that were removed from the stream ...}
-- "More" are other entries that are pending for the consumer; their counts stay. When there are none left, the name
-- is unlocked.
-- Invariants: only entries of this consumer are given back, and none if another process consumes under its name.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local reserved, idle, more = ARGV[4], ARGV[5], tonumber(ARGV[6])
local token = redis.call('GET', KEYS[2])
if token and token ~= ARGV[3] then
  return {0}
end

local answer = {0}
local function give(id, count)
  local given = redis.call('XCLAIM', stream, group, reserved, 0, id, 'IDLE', idle, 'RETRYCOUNT', count, 'JUSTID')
  if #given == 0 then
    redis.call('XACK', stream, group, id)
    answer[#answer + 1] = id
  end
end

for at = 7, #ARGV, 2 do
  if #redis.call('XPENDING', stream, group, ARGV[at], ARGV[at], 1, consumer) > 0 then
    give(ARGV[at], ARGV[at + 1])
  end
end
if more > 0 then
  local rest = redis.call('XPENDING', stream, group, '-', '+', more, consumer)
  for _, pending in ipairs(rest) do
    give(pending[1], pending[4])
  end
  answer[1] = #rest
  if #rest == 0 then
    redis.call('DEL', KEYS[2])
  end
end
return answer
