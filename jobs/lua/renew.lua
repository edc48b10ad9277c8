-- Extends the claims of jobs that run.
-- KEYS: the schedules of the lanes (sorted sets: job, due time)
-- ARGV: the new score of the jobs, CLAIMED and the time until which they are claimed; then pairs: number of the lane in
--   KEYS, job
-- Invariant: a job that has ended meanwhile, and is due or gone, stays so.
local CLAIMED = 1e11
for at = 2, #ARGV, 2 do
  local lane, job = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
  if tonumber(redis.call('ZSCORE', lane, job) or 0) >= CLAIMED then
    redis.call('ZADD', lane, ARGV[1], job)
  end
end
