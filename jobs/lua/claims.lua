-- Functions that other scripts use. A claimed job has the score CLAIMED and the time until which it is claimed, in whole
-- milliseconds; half a millisecond more says that somebody wanted to bring it forward meanwhile.
local CLAIMED = 1e11

local function is_claimed(score)
  return score >= CLAIMED and score < math.huge
end

local function is_asked_for(score)
  return is_claimed(score) and math.floor(score * 10000 + 0.5) % 10 == 5
end

-- Returns the score of a claim as text, which was asked for.
local function asked_for(score)
  return string.format('%.3f', score) .. '5'
end

-- Puts a job into the schedule of a lane, or brings it forward. Returns whether that has moved it.
-- Invariants: a job that is claimed stays claimed; its worker learns that it was asked for when it has ended. A first scan
-- that waits keeps its place among the others.
local function bring_forward(lane, job, due)
  local score = tonumber(redis.call('ZSCORE', lane, job) or 'inf')
  if is_claimed(score) then
    if not is_asked_for(score) then
      redis.call('ZADD', lane, asked_for(score), job)
    end
  elseif score >= 0 and tonumber(due) < score then
    redis.call('ZADD', lane, due, job)
    return true
  end
  return false
end
