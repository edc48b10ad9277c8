-- Commits what a poll found: all of it or nothing. Begins with bits.lua and chain.lua.
-- KEYS: lease, cursor, stream, dead letters, runs, prefix of the state hashes, prefix of the hashes of last
--   records, due (sorted set: what is to be read, since when), absent (hash: id, answers that it is not there),
--   shown (bitmap: places of the records that a complete read has seen), prefix of the hashes of what stands within
--   records, stale (hash: packed id, which read has shown it so), then the due sets of follow-ups (all of one hash tag)
-- ARGV[1]: msgpack of
--   {fence, values that all events share {specversion, source, datacontenttype, dataschema, reason,
--    traceparent or ''},
--    dead letters, fields of the cursor, run record, most run records to keep, what else there is,
--    {id of this commit, highest sequence that the caller knows to be given out, generation it numbers in}}
--   a dead letter, the cursor and the run record: flat lists of names and values
--   what else there is: {at, done, later, absent, present, follow-ups, mark, stale in, settled,
--   places}
--     at: when the reads of `done` began, by this server's clock, or '' for none; done: members of due
--     later: flat list of members of due and in how many seconds; absent: flat list for that hash; present: ids
--     follow-ups: {place of a due set in KEYS, members}; mark: the records of these changes were seen ('1' or '')
--     stale in: seconds until the stale records among the changes are due, unless they are due already; settled: packed
--     ids of records that are not stale any more, as are those of all other changes; places: of further records that
--     were seen
-- ARGV[2]: msgpack of the changes, a flat list (a table for each would cost more than what is done with it). Of each:
--   bucket as text, packed id, state before, state after, and what is beside the state, or false for the usual: one event
--   of a record that was there, or that is new where it had no state. Otherwise
--   {number of its events, by how many the records become more, last record, what stands within it,
--    what is stored of it in stale, member of due}. Without an event: remembered only. With false for the last record, and
--   for what stands within it: they stay as they are, with '' there is none any more; with false for stale and due: it is
--   not stale. A state after has a link to its last event (see fingerprint.py) at its end where the change has no event;
--   of another one this script appends it
-- ARGV[3]: msgpack of the events, a flat list in the order of the changes. Of each: id, type, subject, time, version,
--   changed, flat list of the names and values of further fields, or false
-- ARGV[4] and on: the data of each event, not within the msgpack, where each byte would be copied once more
-- Returns {'ok', sequence of the last event, which commit had changed a state last before this one, first place that it
--     has given}, also for a commit that was done before and whose answer was lost, then with '' for the last two
--      or {'went_back', sequence}: Redis has lost the stream, or less was given out than the caller knows of, or another
--        worker has noticed that
--      or {'fenced', fence in force}: the lease has gone to somebody else, or its holder has committed after this commit
--      or {'conflict', positions of changes (from 0) whose state is another one by now}.
-- Of a record that is deleted the bit in shown is taken back: it must not make up for one that was not seen.
-- Invariants: nothing is written unless the fence is in force, no number is given out twice and every state is the
-- expected one; a commit that is sent twice is written once, also where a copy is delayed until others are written: its
-- id is kept with the lease, which has one holder, and says which commit of the holder it is; a state,
-- its events, its last record, what stands within it and the reads that it makes due are written together, so an
-- event is neither lost nor repeated; what became due again since a read of it began stays due; the cursor is moved last
-- and names the last commit that has changed a state (`committed`): what somebody holds of the states is as of that one.
local MOST_ARGUMENTS = 4000 -- Lua's stack ends at 8000
local OF_CHANGE, OF_EVENT, ARGUMENTS = 5, 7, 3
local DIGITS = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'}
local call = redis.call

-- What is stored of a stale record: its bytes' fingerprint, the read that has shown it last, and since when it is shown.
local function stale_mark(before, shown, now)
  local fingerprint, since = string.match(before or '', '^(%x+) %S+ (%S+)$')
  if fingerprint ~= string.match(shown, '^%x+') or (tonumber(since) or now + 1) > now then
    since = string.format('%.6f', now)
  end
  return shown .. ' ' .. since
end

-- The end of a state: the sequence of the last event, in as few bytes as it takes, whose number is odd.
local function link_to(event)
  if event < 0x400000 then
    return struct.pack('>I3', event * 4)
  elseif event < 0x4000000000 then
    return struct.pack('>I5', event * 4 + 1)
  end
  return struct.pack('>I7', event * 4 + 2)
end

local commit = cmsgpack.unpack(ARGV[1])
local changes, events = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
local fence, shared, dead, more = commit[1], commit[2], commit[3], commit[7]
local this, known, generation = commit[8][1], tonumber(commit[8][2]), commit[8][3]

local lease = call('HMGET', KEYS[1], 'fence', 'commit')
if lease[1] ~= fence or is_overtaken(this, lease[2]) then
  return {'fenced', lease[1] or ''}
end

-- Reading every key first also finds one of a wrong type before anything has been written.
local counts = call('HMGET', KEYS[2], 'sequence', 'tracked', 'places', 'generation', 'committed')
local sequence, tracked, places = tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0)
if not sequence or not tracked or not places then
  return redis.error_reply('DATA sequence, tracked and places of ' .. KEYS[2] .. ' must be numbers')
end
if lease[2] == this then
  call('HSET', KEYS[1], 'commit', this) -- WAIT goes by the last write of the connection
  return {'ok', string.format('%.0f', sequence), '', ''}
end
if sequence < known or (counts[4] or '0') ~= generation then
  return {'went_back', string.format('%.0f', sequence)}
end
local is_empty = call('XLEN', KEYS[3]) == 0
if is_empty and sequence > tonumber(generation) and call('EXISTS', KEYS[3]) == 0 then
  return {'went_back', string.format('%.0f', sequence)}
end
call('XLEN', KEYS[4])
call('XLEN', KEYS[5])
call('ZCARD', KEYS[8])
call('HLEN', KEYS[9])
call('STRLEN', KEYS[10])
local stale = call('HLEN', KEYS[12])
for at = 13, #KEYS do
  call('ZCARD', KEYS[at])
end
local prefix, last, within = KEYS[6] .. ':', KEYS[7] .. ':', KEYS[11] .. ':'
local conflicts, hashes = {'conflict'}, {}
for at = 1, #changes, OF_CHANGE do
  local hash, beside = prefix .. changes[at], changes[at + 4]
  hashes[at] = hash
  if (call('HGET', hash, changes[at + 1]) or '') ~= changes[at + 2] then
    conflicts[#conflicts + 1] = (at - 1) / OF_CHANGE
  end
  if beside and beside[3] then
    call('HLEN', last .. changes[at])
  end
  if beside and beside[4] then
    call('HLEN', within .. changes[at])
  end
end
if #conflicts > 1 then
  return conflicts
end

local time = call('TIME')
local now = time[1] + time[2] / 1000000
-- What events have that name no further fields of their own.
local none = shared[6] ~= '' and {'traceparent', shared[6]} or {}
local specversion, source, datacontenttype, dataschema, reason = shared[1], shared[2], shared[3], shared[4], shared[5]
local stream, data, tens = KEYS[3], ARGUMENTS, nil
local link = sequence
for at = 1, #events, OF_EVENT do
  sequence, data = sequence + 1, data + 1
  local digit = sequence % 10
  if digit == 0 or not tens then -- to write a number is dear: once for ten
    tens = string.format('%015.0f', (sequence - digit) / 10)
  end
  call('XADD', stream, '*',
    'specversion', specversion, 'id', events[at], 'source', source, 'type', events[at + 1], 'subject', events[at + 2],
    'time', events[at + 3], 'datacontenttype', datacontenttype, 'dataschema', dataschema,
    'sequence', tens .. DIGITS[digit], 'version', events[at + 4], 'reason', reason,
    'changed', events[at + 5], 'data', ARGV[data], unpack(events[at + 6] or none))
end
for _, letter in ipairs(dead) do
  call('XADD', KEYS[4], '*', unpack(letter))
end
local first_place = places
local seen, gone = {}, {}
for at = 1, #changes, OF_CHANGE do
  local id, before, state, beside = changes[at + 1], changes[at + 2], changes[at + 3], changes[at + 4]
  local published, grows, tail = 1, before == '' and 1 or 0, ''
  if beside then
    published, grows = beside[1], beside[2]
  end
  if published > 0 then
    link = link + published
    tail = link_to(link)
  end
  if #before < 23 then
    -- A place of its own, for good, in bytes 19 to 22; also in the stead of a state of another hand.
    state = string.sub(state, 1, 18) .. struct.pack('>I4', places) .. string.sub(state, 23) .. tail
    places = places + 1
  else
    if more[7] ~= '' and grows >= 0 then
      seen[#seen + 1] = struct.unpack('>I4', state, 19)
    end
    state = state .. tail
  end
  if grows < 0 then
    gone[#gone + 1] = struct.unpack('>I4', state, 19)
  end
  tracked = tracked + grows
  call('HSET', hashes[at], id, state)
  if beside then
    local bucket, kept, inside = changes[at], beside[3], beside[4]
    if kept == '' then
      call('HDEL', last .. bucket, id)
    elseif kept then
      call('HSET', last .. bucket, id, kept)
    end
    if inside == '' then
      call('HDEL', within .. bucket, id)
    elseif inside then
      call('HSET', within .. bucket, id, inside)
    end
  end
end
if more[7] ~= '' then
  set_range(KEYS[10], first_place, places)
end
set_bits(KEYS[10], seen, 1)
set_bits(KEYS[10], more[10], 1)
set_bits(KEYS[10], gone, 0)
for _, member in ipairs(more[2]) do
  local since = call('ZSCORE', KEYS[8], member)
  if since and tonumber(since) <= tonumber(more[1]) then
    call('ZREM', KEYS[8], member)
  end
end
for at = 1, #more[3], 2 do
  call('ZADD', KEYS[8], string.format('%.6f', now + more[3][at + 1]), more[3][at])
end
for at = 1, #more[9], MOST_ARGUMENTS do
  call('HDEL', KEYS[12], unpack(more[9], at, math.min(at + MOST_ARGUMENTS - 1, #more[9])))
end
for at = 1, #changes, OF_CHANGE do
  local id, beside = changes[at + 1], changes[at + 4]
  if beside and beside[5] then
    call('HSET', KEYS[12], id, stale_mark(call('HGET', KEYS[12], id), beside[5], now))
    call('ZADD', KEYS[8], 'NX', string.format('%.6f', now + more[8]), beside[6])
  elseif stale > 0 then
    call('HDEL', KEYS[12], id)
  end
end
for at = 1, #more[4], MOST_ARGUMENTS do
  call('HSET', KEYS[9], unpack(more[4], at, math.min(at + MOST_ARGUMENTS - 1, #more[4])))
end
for at = 1, #more[5], MOST_ARGUMENTS do
  call('HDEL', KEYS[9], unpack(more[5], at, math.min(at + MOST_ARGUMENTS - 1, #more[5])))
end
for _, follow_up in ipairs(more[6]) do
  for _, member in ipairs(follow_up[2]) do
    call('ZADD', KEYS[follow_up[1]], string.format('%.6f', now), member)
  end
end
if #commit[5] > 0 then
  call('XADD', KEYS[5], 'MAXLEN', '~', commit[6], '*', unpack(commit[5]))
end
call('HSET', KEYS[1], 'commit', this)
call('HSET', KEYS[2], 'sequence', string.format('%.0f', sequence),
  'tracked', string.format('%.0f', tracked), 'places', string.format('%.0f', places),
  'stale', call('HLEN', KEYS[12]), 'committed', #changes > 0 and this or counts[5] or '', unpack(commit[4]))
return {'ok', string.format('%.0f', sequence), counts[5] or '', string.format('%.0f', first_place)}
