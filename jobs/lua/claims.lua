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
