-- Finds the records whose bytes differ from the ones that are known.
-- KEYS: prefix of the state hashes
-- ARGV: msgpack of a flat list: bucket, packed id, raw fingerprint, bucket, packed id, ...; '1' to return the places of
--   those whose bytes are known, which a complete read has seen with that, else ''. The others have been seen with the
--   commit that stores them: a worker that is killed before it has not seen them. Of a record that is known to be
--   unreadable, the stored bytes are the inverse of those that are served; it is not committed again.
--   A record that was erased counts as seen, whatever its bytes.
-- Returns two flat lists: position (from 0), packed state ('' for a new record), position, ...; and the places.
local ERASED = '\0erased\0'

local function is_inverse(one, other)
  return string.gsub(one, '.', function(byte) return string.char(255 - string.byte(byte)) end) == other
end

local wanted = cmsgpack.unpack(ARGV[1])
local prefix = KEYS[1] .. ':'
local ids, places = {}, {} -- by bucket: a small account has several records of a page in one
for at = 1, #wanted, 3 do
  local bucket = wanted[at]
  ids[bucket], places[bucket] = ids[bucket] or {}, places[bucket] or {}
  table.insert(ids[bucket], wanted[at + 1])
  table.insert(places[bucket], at)
end
local states = {}
for bucket, own in pairs(ids) do
  for place, state in ipairs(redis.call('HMGET', prefix .. bucket, unpack(own))) do
    states[places[bucket][place]] = state
  end
end
local found, seen = {}, {}
for at = 1, #wanted, 3 do
  local state = states[at]
  local bytes = state and string.sub(state, 1, 8)
  if bytes ~= wanted[at + 2] then
    found[#found + 1] = (at - 1) / 3
    found[#found + 1] = state or ''
  end
  if ARGV[2] ~= '' and state and #state > 22 and (bytes == wanted[at + 2] or bytes == ERASED or is_inverse(bytes, wanted[at + 2])) then
    seen[#seen + 1] = struct.unpack('>I4', state, 19)
  end
end
return {found, seen}
