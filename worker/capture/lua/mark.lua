-- Notes that a complete read has seen records.
-- KEYS: shown (bitmap: places of the records that it has seen)
-- ARGV: msgpack of a flat list of ranges of places: first, behind the last, first, behind the last, ...
-- Returns the number of ranges.
local ranges = cmsgpack.unpack(ARGV[1])
local single = {}
for at = 1, #ranges, 2 do
  if ranges[at + 1] - ranges[at] < 16 then
    for place = ranges[at], ranges[at + 1] - 1 do
      single[#single + 1] = place
    end
  else
    set_range(KEYS[1], ranges[at], ranges[at + 1])
  end
end
set_bits(KEYS[1], single, 1)
return #ranges / 2
