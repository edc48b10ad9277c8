-- Claims the jobs that are due, as many as there are places.
-- KEYS: the schedules of the lanes (sorted sets: job, due time; all on one server)
-- ARGV: now, seconds that a claim lasts, jobs that are looked at in each lane, '1' to look for claims that have
--   expired, then for each lane: free places, jobs of the lane that this worker has claimed so far, and the accounts
--   whose jobs it runs there: `ACCOUNT=COUNT ...`
-- Returns for each lane: {the score of the next job, job, its score, job, its score, ...}, scores as text. The next job
--   is due now and has no place, or is due later; 0: there may be more now; 'inf': there is none.
-- A first scan that never began has a negative score, the time since which it waits: of these the newest comes first.
-- A job that is claimed stays in its lane, with a score of CLAIMED and the time until which it is claimed. If its worker
-- dies, the claim expires, and the job is due. A claim that ends later than any does was made before the clock was put
-- back, and has expired as well: a worker that is alive renews it (jobs/schedule.py).
-- Invariants: of two workers one gets a job; of jobs that are due, those of accounts with the fewest running ones come
-- first, then first scans that never began, then those that are due the longest. Where first scans wait that never
-- began, every EVERYth place goes to the job of the lane that has waited the longest, so none waits for good.
local CLAIMED, EVERY = 1e11, 4
local now, lasts, look = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local until_then = string.format('%.3f', CLAIMED + now + lasts)

local function account_of(job)
  return string.match(job, '^[^:]*:([^:]*)') or ''
end

local function has_expired(score)
  local ends = score - CLAIMED
  return ends >= 0 and (ends <= now or ends >= now + 2 * lasts)
end

-- The jobs of a lane that have waited the longest, as pairs of a job and its score.
local function longest_waiting(lane, most)
  local found = {}
  for _, scored in ipairs({
    redis.call('ZREVRANGEBYSCORE', lane, '(0', '-inf', 'WITHSCORES', 'LIMIT', 0, most),
    redis.call('ZRANGEBYSCORE', lane, 0, now, 'WITHSCORES', 'LIMIT', 0, most),
  }) do
    for place = 1, #scored, 2 do
      found[#found + 1] = {scored[place], scored[place + 1]}
    end
  end
  table.sort(found, function(one, other)
    return math.abs(tonumber(one[2])) < math.abs(tonumber(other[2]))
  end)
  return found
end

-- What is due, in the order in which it gets places: every EVERYth is the one that has waited the longest.
local function in_turn(due, longest, turn)
  local order, placed, first, second = {}, {}, 1, 1
  while first <= #due or second <= #longest do
    local item
    if second <= #longest and (first > #due or (turn + #order) % EVERY == EVERY - 1) then
      item, second = longest[second], second + 1
    else
      item, first = due[first], first + 1
    end
    if not placed[item[1]] then
      placed[item[1]], order[#order + 1] = true, item
    end
  end
  return order
end

local answer = {}
for at, lane in ipairs(KEYS) do
  local free, turn = tonumber(ARGV[2 + 3 * at]), tonumber(ARGV[3 + 3 * at])
  local running = {}
  for account, count in string.gmatch(ARGV[4 + 3 * at], '([^ =]+)=(%d+)') do
    running[account] = tonumber(count)
  end
  local due, lapsed, more = {}, {}, 'inf'
  local found = redis.call('ZRANGE', lane, 0, look - 1, 'WITHSCORES')
  local is_all = #found < 2 * look
  for place = 1, #found, 2 do
    local score = tonumber(found[place + 1])
    if score <= now then
      due[#due + 1] = {found[place], found[place + 1]}
    elseif score < CLAIMED then
      more = more == 'inf' and found[place + 1] or more
      if not is_all then
        break
      end
    elseif has_expired(score) then
      lapsed[#lapsed + 1] = found[place]
    end
  end
  if not is_all and #due == look then
    more = '0'
  end
  if ARGV[4] == '1' then
    if not is_all then
      lapsed = redis.call('ZRANGEBYSCORE', lane, CLAIMED, CLAIMED + now, 'LIMIT', 0, look)
      for _, job in ipairs(redis.call('ZRANGEBYSCORE', lane, CLAIMED + now + 2 * lasts, '+inf', 'LIMIT', 0, look)) do
        lapsed[#lapsed + 1] = job
      end
    end
    for _, job in ipairs(lapsed) do -- due for longer than its claim, so before the others
      table.insert(due, 1, {job, ARGV[1]})
    end
  end
  if free > 0 and #found > 0 and tonumber(found[2]) < 0 then
    due = in_turn(due, longest_waiting(lane, free), turn)
  end
  local taken, claimed, scored, round = {}, {}, {}, 0
  while free > 0 and #claimed < 2 * #due do
    for place, item in ipairs(due) do
      local account = account_of(item[1])
      if free > 0 and not taken[place] and (running[account] or 0) <= round then
        taken[place], free = true, free - 1
        running[account] = (running[account] or 0) + 1
        claimed[#claimed + 1], claimed[#claimed + 2] = item[1], item[2]
        scored[#scored + 1], scored[#scored + 2] = until_then, item[1]
      end
    end
    round = round + 1
  end
  if #claimed > 0 then
    redis.call('ZADD', lane, unpack(scored))
  end
  for place, item in ipairs(due) do
    if not taken[place] and tonumber(item[2]) < tonumber(more) then
      more = item[2]
    end
  end
  answer[at] = {more, unpack(claimed)}
end
return answer
