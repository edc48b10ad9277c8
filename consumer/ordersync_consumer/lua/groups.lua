-- Not a script of its own: `replay` and `reopen` begin with it. Read-only.

-- Returns the id of the last entry that a group has read; nil if the group does not exist.
local function last_delivered(stream, group)
  if redis.call('EXISTS', stream) == 0 then
    return nil
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local found = {}
    for at = 1, #flat, 2 do
      found[flat[at]] = flat[at + 1]
    end
    if found['name'] == group then
      return found['last-delivered-id']
    end
  end
  return nil
end

