-- Gives back what is leased, ready after a delay. ARGV: delay, members.

sweep()
local delay, given = tonumber(ARGV[1]), {}
for place = 2, #ARGV do
  if redis.call('ZREM', LEASES, ARGV[place]) == 1 then
    if delay > 0 then
      redis.call('ZADD', DELAYED, now + delay, ARGV[place])
    else
      given[#given + 1] = ARGV[place]
    end
  end
end
relist(given)
