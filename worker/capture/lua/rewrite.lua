-- Rewrites states of layout 1 in place: each gets a place (4 bytes, big endian) after its first 18 bytes.
-- KEYS: lease, cursor, prefix of the state hashes, layout (all of one hash tag)
-- ARGV: fence, number of buckets to rewrite in this call
-- Returns 'more', 'done', or 'fenced' if the lease has gone to somebody else.
-- Invariants: a bucket and the progress (`rewritten`, the first bucket that is not, and `places`) are written together,
-- the first ones and the layout 1-3, the last ones and the layout 2, which the states then have. So a state is rewritten
-- once, whoever continues and however often a call is sent. A full scan that was under way begins again: its progress
-- counts records in another way.
local lease, cursor, prefix = KEYS[1], KEYS[2], KEYS[3] .. ':'
if redis.call('HGET', lease, 'fence') ~= ARGV[1] then
  return 'fenced'
end
local layout = redis.call('GET', KEYS[4])
if layout ~= '1' and layout ~= '1-3' then
  return 'done'
end
local values = redis.call('HMGET', cursor, 'buckets', 'rewritten', 'places')
local buckets, first, places = tonumber(values[1] or 0), tonumber(values[2] or 0), tonumber(values[3] or 0)
local last = math.min(first + ARGV[2], buckets)
for bucket = first, last - 1 do
  local states = redis.call('HGETALL', prefix .. bucket)
  for at = 1, #states, 2 do
    local state = states[at + 1]
    redis.call('HSET', prefix .. bucket, states[at],
      string.sub(state, 1, 18) .. struct.pack('>I4', places) .. string.sub(state, 19))
    places = places + 1
  end
end
if last < buckets then
  redis.call('HSET', cursor, 'rewritten', last, 'places', string.format('%.0f', places))
  redis.call('SET', KEYS[4], '1-3')
  return 'more'
end
if buckets > 0 then
  redis.call('HSET', cursor, 'places', string.format('%.0f', places))
end
for _, name in ipairs(redis.call('HKEYS', cursor)) do
  if string.sub(name, 1, 6) == 'sweep_' or name == 'rewritten' then
    redis.call('HDEL', cursor, name)
  end
end
redis.call('SET', KEYS[4], '2')
return 'done'
