-- Searches a part of a stream, from the newest entry to older ones, for the events of some records.
-- Flags: no-writes, allow-oom
-- KEYS: stream
-- ARGV: highest id ('+', or '(' and an id), lowest id, maximum number of entries to scan, number of subjects, the
--   subjects, texts that the record of an event may contain
-- Returns {entries scanned, id of the last of them or '', matching entries, newest first}.
-- An entry matches if its subject is one of the subjects, or if its data contains a text. Compressed data cannot be
-- searched here: if there are texts, such an entry is returned, and the caller must search it.
-- Invariants: read-only; the number of entries is bounded, so that other clients do not wait for long.
local subjects, texts = {}, {}
for at = 5, #ARGV do
  if at < 5 + tonumber(ARGV[4]) then
    subjects[ARGV[at]] = true
  else
    texts[#texts + 1] = ARGV[at]
  end
end

local function matches(fields)
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
  if matches(entry[2]) then
    found[#found + 1] = entry
  end
end
local last = ''
if #entries > 0 then
  last = entries[#entries][1]
end
return {#entries, last, found}
