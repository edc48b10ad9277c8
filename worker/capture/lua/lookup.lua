-- Finds the records whose bytes differ from the ones that are known.
-- KEYS: prefix of the state hashes (all of one hash tag)
-- ARGV: msgpack of a flat list: bucket, packed id, raw fingerprint, bucket, packed id, ...
-- Returns a flat list: position (from 0), packed state ('' for a new record), position, ...
local wanted = cmsgpack.unpack(ARGV[1])
local prefix = KEYS[1] .. ':'
local found = {}
for at = 1, #wanted, 3 do
  local state = redis.call('HGET', prefix .. wanted[at], wanted[at + 1])
  if not state or string.sub(state, 1, 8) ~= wanted[at + 2] then
    found[#found + 1] = (at - 1) / 3
    found[#found + 1] = state or ''
  end
end
return found
