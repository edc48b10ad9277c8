-- Keeps a table of records in a hash: the newest event of each record wins, whichever comes first, and however often.
-- KEYS: the table
-- ARGV: id of the record, id of the entry, the record as JSON
local function newer(one, other)
  local ms, number = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(number) > tonumber(other_number)
end
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before and not newer(ARGV[2], before) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 1
