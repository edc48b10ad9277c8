-- Finds the records that are known and that a complete read has not seen.
-- KEYS: prefix of the state hashes, shown (bitmap: places of the records that it has seen) (all of one hash tag)
-- ARGV: first bucket, bucket behind the last, most to be found
-- Returns {records that there are in these buckets, the place behind the highest in them, records among them that the
-- read has not seen, packed id, packed id, ...}. The numbers are those of all these buckets, the ids no more than the
-- most. Not among the unseen: records that were published as deleted, and unreadable ones, which have no id.
local found, tracked, places, unseen = {}, 0, 0, 0
local most = tonumber(ARGV[3])
for bucket = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  local states = redis.call('HGETALL', KEYS[1] .. ':' .. bucket)
  for at = 1, #states, 2 do
    local id, state = states[at], states[at + 1]
    local version_ends = 23
    while (string.byte(state, version_ends) or 0) >= 128 do
      version_ends = version_ends + 1
    end
    -- After the version, and the fields, whose bytes are even in number, there may be a link of 3, 5 or 7 bytes.
    local ends = #state - ((#state - version_ends) % 2 == 1 and 3 + 2 * (string.byte(state, -1) % 4) or 0)
    local gone = string.sub(state, 1, 8) == '\0\0\0\0\0\0\0\0' and version_ends == ends
    local nameless = string.byte(id) == 254 and #id == 9
    if #state > 22 then
      local place = struct.unpack('>I4', state, 19)
      places = math.max(places, place + 1)
      tracked = tracked + (gone and 0 or 1)
      if not gone and not nameless and redis.call('GETBIT', KEYS[2], place) == 0 then
        unseen = unseen + 1
        if #found < most then
          found[#found + 1] = id
        end
      end
    end
  end
end
-- Not `unpack`, whose stack may be too short for all of them.
table.insert(found, 1, unseen)
table.insert(found, 1, places)
table.insert(found, 1, tracked)
return found
