-- Finds the records whose bytes differ from the ones that are known.
-- KEYS: prefix of the state hashes, shown (bitmap: places of the records that a complete read has seen)
--   (all of one hash tag)
-- ARGV: msgpack of a flat list: bucket, packed id, raw fingerprint, bucket, packed id, ...; '1' to note in the
--   bitmap that those were seen whose bytes are known, else ''. The others are noted with the commit that stores them:
--   a worker that is killed before it has not seen them. Of a record that is known to be unreadable, the stored bytes
--   are the inverse of those that are served; it is not committed again.
-- Returns a flat list: position (from 0), packed state ('' for a new record), position, ...
local function is_inverse(one, other)
  return string.gsub(one, '.', function(byte) return string.char(255 - string.byte(byte)) end) == other
end

local wanted = cmsgpack.unpack(ARGV[1])
local prefix = KEYS[1] .. ':'
local found, seen = {}, {}
for at = 1, #wanted, 3 do
  local state = redis.call('HGET', prefix .. wanted[at], wanted[at + 1])
  local bytes = state and string.sub(state, 1, 8)
  if bytes ~= wanted[at + 2] then
    found[#found + 1] = (at - 1) / 3
    found[#found + 1] = state or ''
  end
  if ARGV[2] ~= '' and state and #state > 22 and (bytes == wanted[at + 2] or is_inverse(bytes, wanted[at + 2])) then
    seen[#seen + 1] = 'SET'
    seen[#seen + 1] = 'u1'
    seen[#seen + 1] = struct.unpack('>I4', state, 19)
    seen[#seen + 1] = 1
  end
end
-- One command for a page, which is also one entry of the append-only file.
for at = 1, #seen, 4000 do
  redis.call('BITFIELD', KEYS[2], unpack(seen, at, math.min(at + 3999, #seen)))
end
return found
