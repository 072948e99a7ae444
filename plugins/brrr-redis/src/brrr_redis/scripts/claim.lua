-- Leases up to LIMIT ready messages. ARGV: limit, lease, token, and '1' where the claim is asked for once more.
-- Gives how many are left ready, in how many milliseconds something is due (where nothing was leased), the members.

local limit, lease, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

sweep()
if ARGV[4] == '1' then
  -- The answer was lost, and the claim may have taken place. What it leased is what it gives, with a lease anew.
  local mine = claimed_by(token)
  if #mine > 0 then
    mine = {unpack(mine, 1, math.min(limit, #mine))} -- twice as many, where the lost claim took place after this one
    lease_anew(lease, mine, 1)
    return {redis.call('LLEN', READY), -1, mine}
  end
end

forget_strangers(0)
-- What a blocked consumer moved is older than what is on the list; whoever comes first takes it.
local bodies = redis.call('LRANGE', INBOX, 0, limit - 1)
local moved = #bodies
if moved < limit then
  for _, body in ipairs(redis.call('LRANGE', READY, 0, limit - moved - 1)) do
    bodies[#bodies + 1] = body
  end
end

-- The instant tells this claim from one with the same token that the server reads later, off a connection given up.
local id = token .. '.' .. clock[1] .. string.format('%06d', clock[2])
local known = redis.call('EXISTS', ATTEMPTS) == 1
local members, scored = {}, {}
for place, body in ipairs(bodies) do
  members[place] = join(id, place, known and recall(body) + 1 or 1, body)
  scored[2 * place - 1] = now + lease
  scored[2 * place] = members[place]
end
chunked('ZADD', LEASES, scored)
if moved > 0 then
  redis.call('LTRIM', INBOX, moved, -1)
end
if #bodies > moved then
  redis.call('LTRIM', READY, #bodies - moved, -1)
end
if known then
  forget_strangers(0)
end

local left = redis.call('LLEN', READY) + redis.call('LLEN', INBOX)
return {left, #members == 0 and due_in() or -1, members}
