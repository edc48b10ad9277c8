-- Returns the states of records, for an iteration over all of them.
-- KEYS: prefix of the state hashes    ARGV: first bucket, bucket behind the last
-- Returns for each bucket a flat list of packed ids and packed states.
local answer = {}
for bucket = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  answer[#answer + 1] = redis.call('HGETALL', KEYS[1] .. ':' .. bucket)
end
return answer
