-- Looks through a part of a stream, from the newest entry to older ones, for the events of some records.
-- KEYS: stream
-- ARGV: highest id ('+', or '(' and an id), lowest id, most entries to look at, number of subjects, the subjects,
--   texts that the record of an event may hold
-- Returns {entries looked at, id of the last of them or '', entries found, the newest first}.
-- An entry is found if its subject is one of them, or if a text stands in its data. Data that is compressed cannot be
-- looked into here: such an entry is found where a text is asked for, and is for the caller to look into.
-- Invariants: changes nothing; looks at no more entries than it is told, so that nobody waits for long.
local subjects, texts = {}, {}
for at = 5, #ARGV do
  if at < 5 + tonumber(ARGV[4]) then
    subjects[ARGV[at]] = true
  else
    texts[#texts + 1] = ARGV[at]
  end
end

local function is_wanted(fields)
  local data, compressed = '', false
  for at = 1, #fields, 2 do
    local name, value = fields[at], fields[at + 1]
    if name == 'subject' and subjects[value] then
      return true
    elseif name == 'data' then
      data = value
    elseif name == 'dataencoding' then
      compressed = value ~= 'identity'
    end
  end
  if compressed then
    return #texts > 0
  end
  for _, text in ipairs(texts) do
    if string.find(data, text, 1, true) then
      return true
    end
  end
  return false
end

local entries = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local found = {}
for _, entry in ipairs(entries) do
  if is_wanted(entry[2]) then
    found[#found + 1] = entry
  end
end
local last = ''
if #entries > 0 then
  last = entries[#entries][1]
end
return {#entries, last, found}
