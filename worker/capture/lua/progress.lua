-- Commits progress with which no record changes: fields of the cursor, and the run record. It is what commit.lua writes
-- of such a commit, in the few commands that a poll without changes is to cost; it may release the lease as well.
-- Begins with chain.lua.
-- KEYS: lease, cursor, stream, runs, open (set of ids) (all of one hash tag)
-- ARGV: msgpack of {fence, id of this commit, highest sequence that the caller knows to be given out, generation it
--   numbers in, fields of the cursor, run record, most run records to keep, '1' to release the lease or '',
--   {id of the last commit that has changed a state, sequence} that this one goes by, or false, ids to add to open}
--   the fields and the record: flat lists of names and values
-- Returns {'ok', sequence of the last event}, also for a commit that was done before and whose answer was lost
--      or {'went_back', sequence} or {'fenced', fence in force}, as commit.lua
--      or {'conflict'}: another commit has changed a state since the commit that this one goes by.
-- Invariants: those of commit.lua; the cursor is moved last.
local call = redis.call
local fence, this, known, generation, fields, run, most, release, as_of, opened = unpack(cmsgpack.unpack(ARGV[1]))

local lease = call('HMGET', KEYS[1], 'fence', 'commit')
local is_done = lease[2] == this
-- Released with this commit, the lease may have been given to somebody else since.
if lease[1] ~= fence and not is_done or is_overtaken(this, lease[2]) then
  return {'fenced', lease[1] or ''}
end
local counts = call('HMGET', KEYS[2], 'sequence', 'generation', 'committed')
local sequence = tonumber(counts[1] or 0)
if not sequence then
  return redis.error_reply('DATA sequence of ' .. KEYS[2] .. ' must be a number')
end
local told = string.format('%.0f', sequence)
if is_done then
  call('HSET', KEYS[1], 'commit', this) -- WAIT goes by the last write of the connection
  return {'ok', told}
end
if sequence < tonumber(known) or (counts[2] or '0') ~= generation then
  return {'went_back', told}
end
if sequence > tonumber(generation) and call('EXISTS', KEYS[3]) == 0 then
  return {'went_back', told}
end
if as_of and (as_of[1] ~= (counts[3] or '') or as_of[2] ~= told) then
  return {'conflict'}
end
for at = 1, #opened, 1000 do -- Lua's stack ends at 8000
  call('SADD', KEYS[5], unpack(opened, at, math.min(at + 999, #opened)))
end
if #run > 0 then
  call('XADD', KEYS[4], 'MAXLEN', '~', most, '*', unpack(run))
end
if release ~= '' then
  call('HSET', KEYS[1], 'commit', this, 'owner', '', 'until', 0)
else
  call('HSET', KEYS[1], 'commit', this)
end
if #fields > 0 then
  call('HSET', KEYS[2], unpack(fields))
end
return {'ok', told}
