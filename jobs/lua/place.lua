-- Puts jobs into the schedule, or brings them forward, and removes others. Begins with claims.lua.
-- KEYS: the schedules of the lanes (sorted sets: job, due time), and the sorted set with the marker `moved`
-- ARGV: triples: number of the lane in KEYS, job, due time; '' to remove the job. A negative due time is that of a first
--   scan that never began: the time since which it waits.
-- Returns the marker as text, which counts the calls that have put in or brought forward something; '' if this one has not.
-- Invariants: those of bring_forward; a job that is claimed is not removed.
local moved = false
for at = 1, #ARGV, 3 do
  local lane, job, due = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if due ~= '' then
    moved = bring_forward(lane, job, due) or moved
  elseif not is_claimed(tonumber(redis.call('ZSCORE', lane, job) or 'inf')) then
    redis.call('ZREM', lane, job)
  end
end
return moved and redis.call('ZINCRBY', KEYS[#KEYS], 1, 'moved') or ''
