-- Leases up to LIMIT ready messages. ARGV: limit, lease, token, and '1' if this repeats a claim.
-- Returns the number of ready messages left, the milliseconds until the next message is due (-1 if any was leased),
-- and the leased members.

local limit, lease, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

sweep()
if ARGV[4] == '1' then
  -- The reply was lost, and the first claim may have run. Return what it leased, with renewed leases.
  local members = claimed_by(token)
  if #members > 0 then
    -- If the lost claim ran after an earlier repeat, the token has up to twice as many members.
    members = {unpack(members, 1, math.min(limit, #members))}
    renew_leases(lease, members, 1)
    return {redis.call('LLEN', READY), -1, members}
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

-- The time distinguishes this claim from one with the same token that the server reads later, from a lost connection.
local id = token .. '.' .. clock[1] .. string.format('%06d', clock[2])
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
return {left, #members == 0 and due_in() or -1, members}
