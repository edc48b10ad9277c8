-- Commits what a poll found: all of it or nothing.
-- KEYS: lease, cursor, stream, dead letters, runs, prefix of the state hashes, prefix of the hashes of last
--   records, due (sorted set: what is to be read, since when), absent (hash: id, answers that it is not there),
--   shown (bitmap: places of the records that a complete read has seen), prefix of the hashes of what stands within
--   records, stale (hash: packed id, which read has shown it so), then the due sets of follow-ups (all of one hash tag)
-- ARGV[1]: msgpack of
--   {fence, values that all events share {specversion, source, datacontenttype, dataschema, reason,
--    traceparent or ''},
--    changes, dead letters, fields of the cursor, run record, most run records to keep, what else there is,
--    {id of this commit, highest sequence that the caller knows to be given out, generation it numbers in}}
--   a change: {bucket, packed id, state before, state after, events, last record, by how many the records become
--     more, what stands within it, {what is stored of it in stale, member of due}}, with no events: remembered only;
--     with false for the last record: it is not kept, for what stands within it: it stays, with '' there is none; with
--     false at the end: it is not stale
--   an event: {id, type, subject, time, version, changed, data, flat list of the names and values of further
--     fields, where it has any}
--   a dead letter, the cursor and the run record: flat lists of names and values
--   what else there is: {at, done, later, absent, present, follow-ups, mark, stale in, settled,
--   places}
--     at: when the reads of `done` began, by this server's clock, or '' for none; done: members of due
--     later: flat list of members of due and in how many seconds; absent: flat list for that hash; present: ids
--     follow-ups: {place of a due set in KEYS, members}; mark: the records of these changes were seen ('1' or '')
--     stale in: seconds until the stale records among the changes are due, unless they are due already; settled: packed
--     ids of records that are not stale any more, as are those of all other changes; places: of further records that
--     were seen
-- Returns {'ok', sequence of the last event}, also for a commit that was done before and whose answer was lost
--      or {'went_back', sequence}: Redis has lost the stream, or less was given out than the caller knows of, or another
--        worker has noticed that
--      or {'fenced', fence in force}: the lease has gone to somebody else
--      or {'conflict', positions of changes (from 0) whose state is another one by now}.
-- Of a record that is deleted the bit in shown is taken back: it must not make up for one that was not seen.
-- Invariants: nothing is written unless the fence is in force, no number is given out twice and every state is the
-- expected one; a commit that is sent twice is written once: its id is kept with the lease, which has one holder; a state,
-- its events, its last record, what stands within it and the reads that it makes due are written together, so an
-- event is neither lost nor repeated; what became due again since a read of it began stays due; the cursor is moved last.
local MOST_ARGUMENTS = 4000 -- Lua's stack ends at 8000

-- What is stored of a stale record: its bytes' fingerprint, the read that has shown it last, and since when it is shown.
local function stale_mark(before, shown, now)
  local fingerprint, since = string.match(before or '', '^(%x+) %S+ (%S+)$')
  if fingerprint ~= string.match(shown, '^%x+') or (tonumber(since) or now + 1) > now then
    since = string.format('%.6f', now)
  end
  return shown .. ' ' .. since
end

local commit = cmsgpack.unpack(ARGV[1])
local fence, shared, changes, dead, more = commit[1], commit[2], commit[3], commit[4], commit[8]
local this, known, generation = commit[9][1], tonumber(commit[9][2]), commit[9][3]

local lease = redis.call('HMGET', KEYS[1], 'fence', 'commit')
if lease[1] ~= fence then
  return {'fenced', lease[1] or ''}
end

-- Reading every key first also finds one of a wrong type before anything has been written.
local counts = redis.call('HMGET', KEYS[2], 'sequence', 'tracked', 'places', 'generation')
local sequence, tracked, places = tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0)
if not sequence or not tracked or not places then
  return redis.error_reply('DATA sequence, tracked and places of ' .. KEYS[2] .. ' must be numbers')
end
if lease[2] == this then
  return {'ok', string.format('%.0f', sequence)}
end
if sequence < known or (counts[4] or '0') ~= generation then
  return {'went_back', string.format('%.0f', sequence)}
end
local is_empty = redis.call('XLEN', KEYS[3]) == 0
if is_empty and sequence > tonumber(generation) and redis.call('EXISTS', KEYS[3]) == 0 then
  return {'went_back', string.format('%.0f', sequence)}
end
redis.call('XLEN', KEYS[4])
redis.call('XLEN', KEYS[5])
redis.call('ZCARD', KEYS[8])
redis.call('HLEN', KEYS[9])
redis.call('STRLEN', KEYS[10])
local stale = redis.call('HLEN', KEYS[12])
for at = 13, #KEYS do
  redis.call('ZCARD', KEYS[at])
end
local prefix, last, within = KEYS[6] .. ':', KEYS[7] .. ':', KEYS[11] .. ':'
local conflicts = {'conflict'}
for position, change in ipairs(changes) do
  local state = redis.call('HGET', prefix .. change[1], change[2]) or ''
  if state ~= change[3] then
    conflicts[#conflicts + 1] = position - 1
  end
  if change[6] then
    redis.call('HLEN', last .. change[1])
  end
  if change[8] then
    redis.call('HLEN', within .. change[1])
  end
end
if #conflicts > 1 then
  return conflicts
end

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
-- What events have that name no further fields of their own.
local none = shared[6] ~= '' and {'traceparent', shared[6]} or {}
for _, change in ipairs(changes) do
  for _, event in ipairs(change[5]) do
    sequence = sequence + 1
    redis.call('XADD', KEYS[3], '*',
      'specversion', shared[1], 'id', event[1], 'source', shared[2], 'type', event[2], 'subject', event[3],
      'time', event[4], 'datacontenttype', shared[3], 'dataschema', shared[4],
      'sequence', string.format('%.0f', sequence), 'version', event[5], 'reason', shared[5],
      'changed', event[6], 'data', event[7], unpack(event[8] or none))
  end
end
for _, letter in ipairs(dead) do
  redis.call('XADD', KEYS[4], '*', unpack(letter))
end
local seen = {}
for _, change in ipairs(changes) do
  local state = change[4]
  if #change[3] < 23 then
    -- A place of its own, for good, in bytes 19 to 22; also in the stead of a state of another hand.
    state = string.sub(state, 1, 18) .. struct.pack('>I4', places) .. string.sub(state, 23)
    places = places + 1
  end
  if more[7] ~= '' and change[7] >= 0 then
    seen[#seen + 1] = struct.unpack('>I4', state, 19)
  end
  if change[7] < 0 then
    redis.call('SETBIT', KEYS[10], (struct.unpack('>I4', state, 19)), 0)
  end
  tracked = tracked + change[7]
  redis.call('HSET', prefix .. change[1], change[2], state)
  if change[6] then
    redis.call('HSET', last .. change[1], change[2], change[6])
  end
  if change[8] == '' then
    redis.call('HDEL', within .. change[1], change[2])
  elseif change[8] then
    redis.call('HSET', within .. change[1], change[2], change[8])
  end
end
for _, place in ipairs(seen) do
  redis.call('SETBIT', KEYS[10], place, 1)
end
for _, place in ipairs(more[10]) do
  redis.call('SETBIT', KEYS[10], place, 1)
end
for _, member in ipairs(more[2]) do
  local since = redis.call('ZSCORE', KEYS[8], member)
  if since and tonumber(since) <= tonumber(more[1]) then
    redis.call('ZREM', KEYS[8], member)
  end
end
for at = 1, #more[3], 2 do
  redis.call('ZADD', KEYS[8], string.format('%.6f', now + more[3][at + 1]), more[3][at])
end
for at = 1, #more[9], MOST_ARGUMENTS do
  redis.call('HDEL', KEYS[12], unpack(more[9], at, math.min(at + MOST_ARGUMENTS - 1, #more[9])))
end
for _, change in ipairs(changes) do
  if change[9] then
    redis.call('HSET', KEYS[12], change[2], stale_mark(redis.call('HGET', KEYS[12], change[2]), change[9][1], now))
    redis.call('ZADD', KEYS[8], 'NX', string.format('%.6f', now + more[8]), change[9][2])
  elseif stale > 0 then
    redis.call('HDEL', KEYS[12], change[2])
  end
end
for at = 1, #more[4], MOST_ARGUMENTS do
  redis.call('HSET', KEYS[9], unpack(more[4], at, math.min(at + MOST_ARGUMENTS - 1, #more[4])))
end
for at = 1, #more[5], MOST_ARGUMENTS do
  redis.call('HDEL', KEYS[9], unpack(more[5], at, math.min(at + MOST_ARGUMENTS - 1, #more[5])))
end
for _, follow_up in ipairs(more[6]) do
  for _, member in ipairs(follow_up[2]) do
    redis.call('ZADD', KEYS[follow_up[1]], string.format('%.6f', now), member)
  end
end
if #commit[6] > 0 then
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', commit[7], '*', unpack(commit[6]))
end
redis.call('HSET', KEYS[1], 'commit', this)
redis.call('HSET', KEYS[2], 'sequence', string.format('%.0f', sequence),
  'tracked', string.format('%.0f', tracked), 'places', string.format('%.0f', places),
  'stale', redis.call('HLEN', KEYS[12]), unpack(commit[5]))
return {'ok', string.format('%.0f', sequence)}
