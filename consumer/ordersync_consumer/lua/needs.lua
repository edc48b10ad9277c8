-- Not a script of its own: `trim` and `survey` begin with it. Read-only.
-- Ids are strings of two numbers, both of which may exceed the precision of a Lua number.

-- Returns a flat list of names and values, as XINFO returns it, as a table.
local function by_name(flat)
  local found = {}
  for at = 1, #flat, 2 do
    found[flat[at]] = flat[at + 1]
  end
  return found
end

local function smaller(one, other)
  if #one ~= #other then
    return #one < #other
  end
  return one < other
end

-- Returns true if id `one` is smaller than id `other`.
local function before(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= other_ms then
    return smaller(ms, other_ms)
  end
  return smaller(seq, other_seq)
end

-- Returns the id after `id`; `id` itself if its second number is too large to be incremented.
local function next_id(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if #seq > 15 then
    return id
  end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end

-- Returns for each group {name, first id that it needs, id delivered last, entries pending, lowest of them or ''}.
-- A group needs its pending entries and those that it has not read.
local function groups_of(stream)
  local found = {}
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = by_name(flat)
    local name, last = group['name'], group['last-delivered-id']
    local needed, lowest = next_id(last), ''
    if group['pending'] > 0 then
      lowest = redis.call('XPENDING', stream, name)[2]
      if before(lowest, needed) then
        needed = lowest
      end
    end
    found[#found + 1] = {name, needed, last, group['pending'], lowest}
  end
  return found
end

-- Returns the length of an entry in bytes, names and values, and its field `sequence` if that is an integer.
local function measure(entry)
  local size, sequence = 0, nil
  for at = 1, #entry[2], 2 do
    local name, value = entry[2][at], entry[2][at + 1]
    size = size + #name + #value
    if name == 'sequence' and string.find(value, '^%d+$') then
      sequence = tonumber(value)
    end
  end
  return size, sequence
end

local SAMPLES = 8

-- Returns the average length of some entries: the first, the last, and some between them, evenly spread over time.
local function average_of(stream)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', SAMPLES)
  if #first == 0 then
    return 0
  end
  local samples = {first, redis.call('XREVRANGE', stream, '+', '-', 'COUNT', SAMPLES)}
  local from = tonumber(string.match(first[1][1], '^%d+'))
  local to = tonumber(string.match(samples[2][1][1], '^%d+'))
  for part = 1, SAMPLES do
    local at = string.format('%.0f', from + math.floor((to - from) * part / (SAMPLES + 1)))
    samples[#samples + 1] = redis.call('XRANGE', stream, at, '+', 'COUNT', 1)
  end
  local size, count = 0, 0
  for _, entries in ipairs(samples) do
    for _, entry in ipairs(entries) do
      size, count = size + measure(entry), count + 1
    end
  end
  return size / count
end

-- Returns by how many entries a stream exceeds the limits on number and bytes (0: no limit).
local function too_many(length, average, most_entries, most_bytes)
  local kept = length
  if most_entries > 0 then
    kept = math.min(kept, most_entries)
  end
  if most_bytes > 0 and average > 0 then
    kept = math.min(kept, math.floor(most_bytes / average))
  end
  return length - kept
end

-- Returns the smallest id that the limit on age (ms; 0: no limit) keeps.
local function oldest_kept(age)
  if age <= 0 then
    return '0-0'
  end
  local time = redis.call('TIME')
  return string.format('%.0f-0', math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - age))
end

-- End of the functions that `trim` and `survey` share.
