-- Functions that other scripts use: they tell a commit that was delayed on the way from one that comes in its turn.

-- Returns whether a session has committed after `this`. Ids of commits are 'FENCE.NUMBER.ANYTHING', and a session counts its
-- commits up; those of earlier versions have no number, and nothing is known of their order.
local function is_overtaken(this, last)
  local session, number = string.match(this, '^(%d+)%.(%d+)%.')
  local last_session, last_number = string.match(last or '', '^(%d+)%.(%d+)%.')
  return session ~= nil and session == last_session and tonumber(number) < tonumber(last_number)
end
