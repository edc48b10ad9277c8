-- Extends the claims of jobs that run. Begins with claims.lua.
-- KEYS: the schedules of the lanes (sorted sets: job, due time)
-- ARGV: the new score of the jobs, CLAIMED and the time until which they are claimed, in milliseconds; then pairs: number
--   of the lane in KEYS, job
-- Invariant: a job that has ended meanwhile, and is due or gone, stays so; one that was asked for stays that.
for at = 2, #ARGV, 2 do
  local lane, job = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
  local score = tonumber(redis.call('ZSCORE', lane, job) or 0)
  if is_claimed(score) then
    redis.call('ZADD', lane, is_asked_for(score) and asked_for(tonumber(ARGV[1])) or ARGV[1], job)
  end
end
