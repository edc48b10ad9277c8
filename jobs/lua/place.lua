-- Puts jobs into the schedule, or brings them forward, and removes others. Begins with claims.lua.
-- KEYS: the schedules of the lanes (sorted sets: job, due time), and the sorted set with the marker `moved`
-- ARGV: triples: number of the lane in KEYS, job, due time; '' to remove the job. A negative due time is that of a first
--   scan that never began: the time since which it waits.
-- Returns the marker as text, which counts the calls that have put in or brought forward something; '' if this one has not.
-- Invariants: a job that is claimed stays claimed; its worker learns that it was asked for when it has ended. A first scan
-- that waits keeps its place among the others.
local moved = false
for at = 1, #ARGV, 3 do
  local lane, job, due = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  local score = tonumber(redis.call('ZSCORE', lane, job) or 'inf')
  if is_claimed(score) then
    if due ~= '' and not is_asked_for(score) then
      redis.call('ZADD', lane, asked_for(score), job)
    end
  elseif due == '' then
    if score ~= math.huge then
      redis.call('ZREM', lane, job)
    end
  elseif score >= 0 and tonumber(due) < score then
    redis.call('ZADD', lane, due, job)
    moved = true
  end
end
return moved and redis.call('ZINCRBY', KEYS[#KEYS], 1, 'moved') or ''
