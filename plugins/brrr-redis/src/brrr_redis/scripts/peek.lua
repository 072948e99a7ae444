-- Returns the bodies of ready, leased and delayed messages, up to LIMIT of each. ARGV: limit.

local function bodies_of(zset, first)
  local bodies = {}
  for index, member in ipairs(redis.call('ZRANGEBYSCORE', zset, first, '+inf', 'LIMIT', 0, ARGV[1])) do
    local _, body = split_member(member)
    bodies[index] = body
  end
  return bodies
end

local ready = redis.call('LRANGE', READY, 0, ARGV[1] - 1)
for _, body in ipairs(redis.call('LRANGE', INBOX, 0, ARGV[1] - 1)) do
  ready[#ready + 1] = body
end
for _, zset in ipairs({LEASES, DELAYED}) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', zset, '-inf', now, 'LIMIT', 0, ARGV[1])) do
    local _, body = split_member(member)
    ready[#ready + 1] = body
  end
end
return {ready, bodies_of(LEASES, '(' .. now), bodies_of(DELAYED, '(' .. now)}
