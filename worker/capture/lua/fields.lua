-- Gives new field names a place. Places are never taken back, so that fingerprints stay comparable.
-- KEYS: list of names    ARGV: names that may be new
-- Returns the whole list.
local names = redis.call('LRANGE', KEYS[1], 0, -1)
local known = {}
for _, name in ipairs(names) do
  known[name] = true
end
for _, name in ipairs(ARGV) do
  if not known[name] then
    known[name] = true
    names[#names + 1] = name
    redis.call('RPUSH', KEYS[1], name)
  end
end
return names
