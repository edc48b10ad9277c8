-- Counts the states of records.
-- KEYS: prefix of the state hashes    ARGV: first bucket, bucket behind the last
-- Returns how many there are in these buckets, also of deleted records.
local count = 0
for bucket = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  count = count + redis.call('HLEN', KEYS[1] .. ':' .. bucket)
end
return count
