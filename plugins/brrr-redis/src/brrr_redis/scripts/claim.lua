-- Leases up to LIMIT ready messages. ARGV: limit, lease, token, '1' if this repeats a claim, else '0'. Then readings, if
-- records are read with the messages: as `records.lua` says.
-- Returns the number of ready messages left, the milliseconds until the next message is due (-1 for none), the leased
-- members, and the records of each one.

local limit, lease, token, readings = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[5] and 5
local MOST_BYTES = 4194304 -- of the records of one claim; the other messages stay ready

sweep()
if ARGV[4] == '1' then
  -- The reply was lost, and the first claim may have run. Return what it leased, with renewed leases.
  local members = claimed_by(token)
  if #members > 0 then
    -- If the lost claim ran after an earlier repeat, the token has up to twice as many members.
    members = {unpack(members, 1, math.min(limit, #members))}
    renew_leases(lease, members, 1)
    local records = {}
    for index = 1, readings and #members or 0 do
      local _, body = split_member(members[index])
      records[index] = read_records(body, readings)
    end
    return {redis.call('LLEN', READY), due_in(), members, records}
  end
end

delete_stale_attempts(0)
-- Messages of the inbox, which blocked consumers moved there, are older than those of the list.
local bodies = redis.call('LRANGE', INBOX, 0, limit - 1)
local moved = #bodies
if moved < limit then
  for _, body in ipairs(redis.call('LRANGE', READY, 0, limit - moved - 1)) do
    bodies[#bodies + 1] = body
  end
end

local records, bytes = {}, 0
for index = 1, readings and #bodies or 0 do
  local size
  records[index], size = read_records(bodies[index], readings)
  bytes = bytes + size
  if bytes > MOST_BYTES then
    bodies = {unpack(bodies, 1, index)}
    break
  end
end
moved = math.min(moved, #bodies)

local id = lease_batch(token)
local known = redis.call('EXISTS', ATTEMPTS) == 1
local members, scores_and_members = {}, {}
for index, body in ipairs(bodies) do
  members[index] = join_member(id, index, known and take_attempt(body) + 1 or 1, body)
  scores_and_members[2 * index - 1] = now + lease
  scores_and_members[2 * index] = members[index]
end
call_in_chunks('ZADD', LEASES, scores_and_members)
if moved > 0 then
  redis.call('LTRIM', INBOX, moved, -1)
end
if #bodies > moved then
  redis.call('LTRIM', READY, #bodies - moved, -1)
end
if known then
  delete_stale_attempts(0)
end

local left = redis.call('LLEN', READY) + redis.call('LLEN', INBOX)
return {left, due_in(), members, records}
