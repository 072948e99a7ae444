-- Deletes up to LIMIT dead letters, the oldest first. ARGV: limit. Gives how many.

local there = redis.call('LLEN', DEAD)
redis.call('LTRIM', DEAD, ARGV[1], -1)
return there - redis.call('LLEN', DEAD)
