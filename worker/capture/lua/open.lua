-- Opens a session of a source: acquires its lease, and reads all that decides whether and how the source is read.
-- With that it takes a permit for the first request. Begins with leases.lua and permits.lua.
-- KEYS: lease, cursor, stream, names of fields, layout, source, contract, paused, due, absent, cut, accepted, budget, and
--   for an audit log the cursor of its parent (all of one hash tag)
-- ARGV: owner, or '' if the caller has a lease already; ms of the lease; the resource; '1' to look at the memory, else '';
--   and for a permit: requests per second, capacity, name of the worker (see permits.lua). For an audit log it is taken
--   only if any is due.
-- Returns {'paused', pause of the resource or '', pause of everything or ''}
--   or {'held', owner, ms left}
--   or {'open', fence, time of this server, layout or nil, source or nil, cursor, stream exists, names of fields exist,
--     contract, entries in due, in absent, in cut, 1 if deletions are accepted, cursor of the parent, groups of the
--     stream, groups among them that have not read its last entry, used memory, maxmemory, permits, workers that share the
--     budget (0 if it was not asked)}. A hash is a flat list of names and values; the memory is 0 if INFO is not permitted.
-- Invariants: the lease is written last: an error leaves nothing behind but a permit, which is not used then. There is no
-- permit without the lease.
local call = redis.call
local owner, ms, resource = ARGV[1], tonumber(ARGV[2]), ARGV[3]
-- Nearly always none of these exists: one command instead of five.
local is_rare = call('EXISTS', KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]) > 0
if is_rare then
  local paused = call('HMGET', KEYS[8], resource, '*')
  if (paused[1] or paused[2] or '') ~= '' then
    if owner ~= '' and call('HGET', KEYS[1], 'owner') == owner then -- given before the pause; that answer was lost
      call('HSET', KEYS[1], 'owner', '', 'until', 0)
    end
    return {'paused', paused[1] or '', paused[2] or ''}
  end
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence, holder, ends = 0, '', 0
if owner ~= '' then
  fence, holder, ends = lease_at(KEYS[1])
  local left = held_for(KEYS[1], owner, holder, ends, now, ms)
  if left > 0 then
    return {'held', holder, left}
  end
end

local versions = call('MGET', KEYS[5], KEYS[6])
for at = 1, 2 do
  versions[at] = versions[at] or call('GET', KEYS[4 + at]) -- to MGET, a key of a wrong type is not there
end
local cursor = call('HGETALL', KEYS[2])
local there = call('EXISTS', KEYS[3], KEYS[4])
local stream, fields = 1, 1
if there < 2 then
  stream = there > 0 and call('EXISTS', KEYS[3]) or 0
  fields = there - stream
end
local groups, behind = 0, 0
if stream == 1 then
  local newest
  for _, group in ipairs(call('XINFO', 'GROUPS', KEYS[3])) do
    if not newest then
      newest = call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1] or {''}
    end
    groups = groups + 1
    for at = 1, #group, 2 do
      if group[at] == 'last-delivered-id' and newest[1] ~= '' and group[at + 1] ~= newest[1] then
        behind = behind + 1
      end
    end
  end
end
local used, most = 0, 0
if ARGV[4] ~= '' then
  local info = redis.pcall('INFO', 'memory')
  if type(info) == 'string' then
    most = tonumber(string.match(info, '\nmaxmemory:(%d+)') or 0)
    used = tonumber(string.match(info, '\nused_memory:(%d+)') or 0)
      - tonumber(string.match(info, '\nmem_not_counted_for_evict:(%d+)') or 0)
  end
end
local contract = call('HGETALL', KEYS[7])
local parent = KEYS[14] and call('HGETALL', KEYS[14]) or {}
local due, absent, cut, accepted = 0, 0, 0, 0
if is_rare then
  due, absent, cut = call('ZCARD', KEYS[9]), call('HLEN', KEYS[10]), call('HLEN', KEYS[11])
  accepted = call('HEXISTS', KEYS[12], resource)
end
local permits, sharing = 0, 0
if ARGV[5] and (not KEYS[14] or due > 0) then
  local wait
  permits, wait, sharing = take_permits(KEYS[13], time[1] * 1000 + time[2] / 1000, ARGV[5], tonumber(ARGV[6]), 1, ARGV[7])
end
if owner ~= '' then
  fence = give(KEYS[1], owner, fence, holder, now, ms)
end
return {'open', fence, string.format('%.6f', time[1] + time[2] / 1000000), versions[1], versions[2], cursor, stream,
  fields, contract, due, absent, cut, accepted, parent, groups, behind, used, most, permits, sharing}
