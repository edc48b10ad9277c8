-- Looks at streams without reading them, to tell those of which nothing has changed.
-- KEYS: streams: first those that are expected to exist (all of one hash tag)
-- ARGV: how many are expected to exist
-- Returns for each stream {entries, id of the first one, id of the last one, groups, groups among them that have not
--   acknowledged all of it}, '' for a stream that does not exist, or the error as text, such as that of another type. An
--   id is '' if there is no entry.
-- Invariants: read-only. All that are not expected take one command, unless one of them exists.
local call, expected = redis.call, tonumber(ARGV[1])

local function look(stream)
  local told = redis.pcall('XINFO', 'STREAM', stream)
  if told['err'] then
    return call('EXISTS', stream) == 0 and '' or told['err']
  end
  local of = {}
  for at = 1, #told, 2 do
    of[told[at]] = told[at + 1]
  end
  local first, last, behind = of['first-entry'], of['last-entry'], 0
  first, last = first and first[1] or '', last and last[1] or ''
  if of['groups'] > 0 then
    for _, group in ipairs(call('XINFO', 'GROUPS', stream)) do
      local delivered, pending = '', 0
      for at = 1, #group, 2 do
        if group[at] == 'last-delivered-id' then
          delivered = group[at + 1]
        elseif group[at] == 'pending' then
          pending = group[at + 1]
        end
      end
      if pending > 0 or (last ~= '' and delivered ~= last) then
        behind = behind + 1
      end
    end
  end
  return {of['length'], first, last, of['groups'], behind}
end

local answer, there = {}, expected < #KEYS and call('EXISTS', unpack(KEYS, expected + 1)) or 0
for at, stream in ipairs(KEYS) do
  answer[at] = (at <= expected or (there > 0 and call('EXISTS', stream) == 1)) and look(stream) or ''
end
return answer
