-- Functions that other scripts use: they set bits of a bitmap, many in few commands, which are few entries of the
-- append-only file as well.

-- Sets the bits of a list of places.
local function set_bits(key, places, value)
  for start = 1, #places, 1000 do -- Lua's stack ends at 8000
    local words = {}
    for at = start, math.min(start + 999, #places) do
      words[#words + 1] = 'SET'
      words[#words + 1] = 'u1'
      words[#words + 1] = places[at]
      words[#words + 1] = value
    end
    redis.call('BITFIELD', key, unpack(words))
  end
end

-- Sets the bits from one place to the one before `behind`: whole bytes at once.
local function set_range(key, place, behind)
  local first = math.min(math.ceil(place / 8) * 8, behind)
  local last = math.max(math.floor(behind / 8) * 8, first)
  local edges = {}
  for at = place, first - 1 do
    edges[#edges + 1] = at
  end
  for at = last, behind - 1 do
    edges[#edges + 1] = at
  end
  if last > first then
    redis.call('SETRANGE', key, first / 8, string.rep('\255', (last - first) / 8))
  end
  set_bits(key, edges, 1)
end

