-- Commits what a poll found: all of it or nothing.
-- KEYS: lease, cursor, stream, dead letters, runs, prefix of the state hashes, prefix of the hashes of last
--   records (all of one hash tag)
-- ARGV[1]: msgpack of
--   {fence, values that all events share {specversion, source, datacontenttype, dataschema, reason},
--    changes, dead letters, fields of the cursor, run record, most run records to keep}
--   a change: {bucket, packed id, state before, state after, event, last record}, without an event: remembered
--     only; without a last record: it is not kept
--   an event: {id, type, subject, time, version, changed, data, flat list of the names and values of further
--     fields, where it has any}
--   a dead letter, the cursor and the run record: flat lists of names and values
-- Returns {'ok', sequence of the last event}
--      or {'fenced', fence in force}: the lease has gone to somebody else
--      or {'conflict', positions of changes (from 0) whose state is another one by now}.
-- Invariants: nothing is written unless the fence is in force and every state is the expected one; a state,
-- its event and its last record are written together, so an event is neither lost nor repeated; the cursor is
-- moved last.
local commit = cmsgpack.unpack(ARGV[1])
local fence, shared, changes, dead = commit[1], commit[2], commit[3], commit[4]

local in_force = redis.call('HGET', KEYS[1], 'fence')
if in_force ~= fence then
  return {'fenced', in_force or ''}
end

-- Reading every key first also finds one of a wrong type before anything has been written.
local sequence = tonumber(redis.call('HGET', KEYS[2], 'sequence') or 0)
local tracked = tonumber(redis.call('HGET', KEYS[2], 'tracked') or 0)
if not sequence or not tracked then
  return redis.error_reply('DATA sequence and tracked of ' .. KEYS[2] .. ' must be numbers')
end
redis.call('XLEN', KEYS[3])
redis.call('XLEN', KEYS[4])
redis.call('XLEN', KEYS[5])
local prefix, last = KEYS[6] .. ':', KEYS[7] .. ':'
local conflicts = {'conflict'}
local new = 0
for position, change in ipairs(changes) do
  local state = redis.call('HGET', prefix .. change[1], change[2]) or ''
  if state ~= change[3] then
    conflicts[#conflicts + 1] = position - 1
  elseif state == '' then
    new = new + 1
  end
  if change[6] then
    redis.call('HLEN', last .. change[1])
  end
end
if #conflicts > 1 then
  return conflicts
end

local none = {}
for _, change in ipairs(changes) do
  local event = change[5]
  if event then
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
for _, change in ipairs(changes) do
  redis.call('HSET', prefix .. change[1], change[2], change[4])
  if change[6] then
    redis.call('HSET', last .. change[1], change[2], change[6])
  end
end
if #commit[6] > 0 then
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', commit[7], '*', unpack(commit[6]))
end
redis.call('HSET', KEYS[2], 'sequence', string.format('%.0f', sequence),
  'tracked', string.format('%.0f', tracked + new), unpack(commit[5]))
return {'ok', string.format('%.0f', sequence)}
