-- Starts leases anew. ARGV: lease, members.

sweep()
redis.call('ZREM', LEASES, '') -- a full server refuses what may grow, but not after a script's first write
local scored = {}
for place = 2, #ARGV do
  scored[#scored + 1] = now + tonumber(ARGV[1])
  scored[#scored + 1] = ARGV[place]
end
for begin = 1, #scored, CHUNK do
  redis.call('ZADD', LEASES, 'XX', unpack(scored, begin, math.min(begin + CHUNK - 1, #scored)))
end
