-- Leases up to LIMIT ready messages. ARGV: limit, lease, token, and '1' where the claim is asked for once more.
-- Gives how many are left ready, in how many milliseconds something is due (where nothing was leased), the members.

local limit, lease, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

if ARGV[4] == '1' then
  -- The answer was lost, and the claim may have taken place. What it leased is what it gives.
  local mine = claimed_by(token)
  if #mine > 0 then
    return {redis.call('LLEN', READY), -1, mine}
  end
end

sweep()
-- What a blocked consumer moved is older than what is on the list; whoever comes first takes it.
local bodies = redis.call('LPOP', INBOX, limit) or {}
if #bodies < limit then
  for _, body in ipairs(redis.call('LPOP', READY, limit - #bodies) or {}) do
    bodies[#bodies + 1] = body
  end
end

local known = redis.call('EXISTS', ATTEMPTS) == 1
local members, scored = {}, {}
for place, body in ipairs(bodies) do
  members[place] = join(token, place, known and recall(body) + 1 or 1, body)
  scored[2 * place - 1] = now + lease
  scored[2 * place] = members[place]
end
chunked('ZADD', LEASES, scored)

local left = redis.call('LLEN', READY) + redis.call('LLEN', INBOX)
if known and left == 0 then
  redis.call('DEL', ATTEMPTS) -- what it still holds, consumers of other languages took
end
return {left, #members == 0 and due_in() or -1, members}
