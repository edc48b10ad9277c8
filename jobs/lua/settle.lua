-- Gives jobs that have ended their next due times, and brings others forward that they have made due. Begins with
-- claims.lua.
-- KEYS: the schedules of the lanes (sorted sets: job, due time), and the sorted set with the marker `moved`
-- ARGV: how many jobs have ended; then triples, first those of the jobs that have ended: number of the lane in KEYS, job,
--   due time; '' to remove a job that has ended. The others are brought forward as in place.lua.
-- Returns the marker as place.lua does, and for each job that has ended 1 if somebody wanted to bring it forward while it
--   was claimed, else 0.
local ended, asked, moved = tonumber(ARGV[1]), {}, false
for at = 2, #ARGV, 3 do
  local lane, job, due = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  if #asked == ended then
    moved = bring_forward(lane, job, due) or moved
  else
    asked[#asked + 1] = is_asked_for(tonumber(redis.call('ZSCORE', lane, job) or 0)) and 1 or 0
    if due == '' then
      redis.call('ZREM', lane, job)
    else
      redis.call('ZADD', lane, due, job)
    end
  end
end
return {moved and redis.call('ZINCRBY', KEYS[#KEYS], 1, 'moved') or '', unpack(asked)}
