-- Finds the events of one record in a stream, from its last one back along their links.
-- Flags: no-writes, allow-oom
-- KEYS: stream
-- ARGV: subject, sequence of the event to begin with, maximum number of events
-- Returns {end, sequence, events, newest first}. `end`:
--   complete: the last of them is the first event of the record, or what an erasure has left
--   trimmed: the event before them is older than the stream's first one
--   missing: the event with this sequence is not there, or another program wrote what is there
--   unlinked: the last of them names no event before it
--   more: there are more; call again with this sequence
-- The sequence grows with the id of the entry, so an event is found by bisection: some 40 look-ups, however long the
-- stream is. Within a millisecond the entries of one commit follow one another.
-- Invariants: read-only; the number of look-ups is bounded.
local FOREIGN = 100 -- entries of another program in a row that are passed over
local FAR = 2 ^ 52 -- up to here Lua counts exactly. Entries behind it, as of another program, are taken to be there
local stream, subject = KEYS[1], ARGV[1]

local function field(entry, name)
  for at = 1, #entry[2], 2 do
    if entry[2][at] == name then
      return entry[2][at + 1]
    end
  end
  return nil
end

-- The milliseconds of an entry, its number within them, and the milliseconds as they are.
local function parts(entry)
  local ms, number = string.match(entry[1], '^(%d+)-(%d+)$')
  return math.min(tonumber(ms), FAR), math.min(tonumber(number), FAR), ms
end

-- The first event at or after an id, and its sequence; nil if there is none.
local function first_from(id)
  for _ = 1, FOREIGN do
    local entry = redis.call('XRANGE', stream, id, '+', 'COUNT', 1)[1]
    if not entry then
      return nil
    end
    local sequence = tonumber(field(entry, 'sequence') or '')
    if sequence then
      return entry, sequence
    end
    id = '(' .. entry[1]
  end
  return nil
end

-- The greatest number from `low` to below `high` whose first event has at most this sequence, and that event. It is
-- known of `low`.
local function bisect(low, high, wanted, id_of)
  local best, found
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry, sequence = first_from(id_of(middle))
    if entry and sequence <= wanted then
      low, best, found = middle + 1, entry, sequence
    else
      high = middle
    end
  end
  return best, found
end

local first, oldest = first_from('-')
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local highest = newest and parts(newest)

local function find(wanted)
  local low = parts(first)
  local entry, sequence = bisect(low, highest + 1, wanted, function(ms)
    return string.format('%.0f-0', ms)
  end)
  if not entry or sequence == wanted then
    return entry
  end
  local _, number, ms = parts(entry)
  local guess, found = first_from(string.format('%s-%.0f', ms, number + wanted - sequence))
  if found == wanted then
    return guess
  end
  entry, sequence = bisect(number, number + wanted - sequence + FOREIGN, wanted, function(place)
    return string.format('%s-%.0f', ms, place)
  end)
  return sequence == wanted and entry or nil
end

local wanted, events = tonumber(ARGV[2]), {}
local expected -- version
while #events < tonumber(ARGV[3]) do
  if not first or wanted < oldest then
    return {'trimmed', string.format('%.0f', wanted), events}
  end
  local entry = find(wanted)
  local version = entry and tonumber(field(entry, 'version') or '')
  if not version or field(entry, 'subject') ~= subject or (expected and version >= expected) then
    return {'missing', string.format('%.0f', wanted), events}
  end
  events[#events + 1] = entry
  highest = parts(entry)
  if version == 1 or string.match(field(entry, 'type') or '', '%.erased$') then
    return {'complete', '', events}
  end
  local before = tonumber(field(entry, 'predecessor') or '')
  if not before then
    -- The events of an audit log that one commit published follow one another.
    local neighbour = wanted > oldest and find(wanted - 1)
    if not neighbour or field(neighbour, 'subject') ~= subject
        or tonumber(field(neighbour, 'version') or '') ~= version - 1 then
      return {'unlinked', string.format('%.0f', wanted), events}
    end
    before = wanted - 1
  end
  expected, wanted = version, before
end
return {'more', string.format('%.0f', wanted), events}
