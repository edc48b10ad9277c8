-- Finds the events of one record in a stream, from its last one back along their links.
-- Flags: no-writes, allow-oom
-- KEYS: stream
-- ARGV: subject, sequence of the event to begin with, number of look-ups after which the call ends
-- Returns {end, sequence, events, newest first}. `end`:
--   complete: the last of them is the first event of the record, or what an erasure has left
--   trimmed: the event before them is older than the stream's first one
--   missing: the event with this sequence is not there, or entries of other programs are in the way
--   unlinked: the last of them names no event before it
--   more: there are more; call again with this sequence
-- An event is found by its sequence, which grows with the id of the entry. Each look-up reads the last event before a
-- guessed id, by interpolation between an event on either side. Where that does not halve the number of events between
-- them, the next guess halves the time, and so does each guess after GUESSES of them. Events that were seen on the way
-- bound the searches that follow.
-- Within a millisecond the numbers of the entries grow by one, so the sequence grows no faster than they do.
-- Invariants: read-only; the number of look-ups is bounded, however long the stream is.
local FOREIGN = 100 -- entries of another program in a row that are passed over
local FAR = 2 ^ 52 -- up to here Lua counts exactly. Entries behind it, as of another program, are taken to be there
local NEAR = 4 -- events that are passed one by one
local GUESSES = 16
local stream, subject = KEYS[1], ARGV[1]
local looked = 0

local function field(entry, name)
  for at = 1, #entry[2], 2 do
    if entry[2][at] == name then
      return entry[2][at + 1]
    end
  end
  return nil
end

-- The first event of a range: its entry, sequence, milliseconds (as they are and as a number) and number within them.
local function event_of(command, from, to)
  for _ = 1, FOREIGN do
    looked = looked + 1
    local entry = redis.call(command, stream, from, to, 'COUNT', 1)[1]
    if not entry then
      return nil
    end
    local sequence = tonumber(field(entry, 'sequence') or '')
    if sequence then
      local ms, number = string.match(entry[1], '^(%d+)-(%d+)$')
      return {
        entry = entry,
        sequence = sequence,
        text = ms,
        ms = math.min(tonumber(ms), FAR),
        number = math.min(tonumber(number), FAR),
      }
    end
    from = '(' .. entry[1]
  end
  return nil
end

local oldest, high = event_of('XRANGE', '-', '+'), event_of('XREVRANGE', '+', '-')
local lows = { oldest } -- events that are not after the wanted one, oldest first

-- The event with a sequence, nil if there is none. It must be lower than that of the last call.
local function find(wanted)
  while #lows > 0 and lows[#lows].sequence > wanted do
    high = table.remove(lows)
  end
  local low = lows[#lows]
  if not low or not high or high.sequence < wanted then
    return nil
  end
  for _, event in ipairs({ low, high }) do
    if event.sequence == wanted then
      high = event
      return event.entry
    end
  end
  local ms, number = low.ms, low.number + 1 -- the wanted event is here at the earliest
  local slow, latest = false, looked + GUESSES
  while true do
    local apart, between = high.sequence - wanted, high.sequence - low.sequence
    local last_ms, last = high.ms, high.number - apart -- and there at the latest
    if last < 0 then
      last_ms, last = high.ms - 1, FAR
    end
    if ms > last_ms or (ms == last_ms and number > last) then
      return nil
    end
    local guess_ms, guess = last_ms, last
    if apart > NEAR then
      if last_ms < high.ms and ms < last_ms then
        local share = (wanted + NEAR / 2 - low.sequence) / between
        guess_ms = slow and (ms + last_ms) / 2 or low.ms + (high.ms - low.ms) * share
        guess_ms = math.max(ms, math.min(math.floor(guess_ms), last_ms))
        guess = FAR
      elseif slow and last_ms == high.ms then
        guess = math.floor(((ms == last_ms and number or 0) + last) / 2)
      end
    end
    local text = guess_ms == high.ms and high.text or string.format('%.0f', guess_ms)
    local before = guess < FAR and string.format('%s-%.0f', text, guess) or text
    local event = event_of('XREVRANGE', before, '(' .. low.entry[1])
    if event and event.sequence >= wanted then
      high = event
      if event.sequence == wanted then
        return event.entry
      end
    else
      if event then
        low = event
        lows[#lows + 1] = event
      end
      ms, number = guess_ms, guess + 1
      if guess == FAR then
        ms, number = guess_ms + 1, 0
      end
    end
    slow = looked > latest or (high.sequence - low.sequence) * 2 > between
  end
end

local wanted, events = tonumber(ARGV[2]), {}
local expected -- version
while looked < tonumber(ARGV[3]) do
  if not oldest or wanted < oldest.sequence then
    return {'trimmed', string.format('%.0f', wanted), events}
  end
  local entry = find(wanted)
  local version = entry and tonumber(field(entry, 'version') or '')
  if not version or field(entry, 'subject') ~= subject or (expected and version >= expected) then
    return {'missing', string.format('%.0f', wanted), events}
  end
  events[#events + 1] = entry
  if version == 1 or string.match(field(entry, 'type') or '', '%.erased$') then
    return {'complete', '', events}
  end
  local before = tonumber(field(entry, 'predecessor') or '')
  if not before then
    -- The events of an audit log that one commit published follow one another.
    local neighbour = wanted > oldest.sequence and find(wanted - 1)
    if not neighbour or field(neighbour, 'subject') ~= subject
        or tonumber(field(neighbour, 'version') or '') ~= version - 1 then
      return {'unlinked', string.format('%.0f', wanted), events}
    end
    before = wanted - 1
  end
  expected, wanted = version, before
end
return {'more', string.format('%.0f', wanted), events}
