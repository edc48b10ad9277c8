-- Finds the records that are known and that a complete read has not seen.
-- KEYS: prefix of the state hashes, shown (bitmap: places of the records that it has seen) (all of one hash tag)
-- ARGV: first bucket, bucket behind the last, most to be found
-- Returns {bucket to go on with, packed id, packed id, ...}. Not among them: records that were published as
-- deleted, and the places of unreadable records, which have no id.
local found = {0}
local bucket, behind, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
while bucket < behind and #found <= most do
  local states = redis.call('HGETALL', KEYS[1] .. ':' .. bucket)
  for at = 1, #states, 2 do
    local id, state = states[at], states[at + 1]
    local version_ends = 23
    while (string.byte(state, version_ends) or 0) >= 128 do
      version_ends = version_ends + 1
    end
    local gone = string.sub(state, 1, 8) == '\0\0\0\0\0\0\0\0' and version_ends == #state
    local nameless = string.byte(id) == 254 and #id == 9
    if not gone and not nameless and #state > 22
        and redis.call('GETBIT', KEYS[2], (struct.unpack('>I4', state, 19))) == 0 then
      found[#found + 1] = id
    end
  end
  bucket = bucket + 1
end
found[1] = bucket
return found
