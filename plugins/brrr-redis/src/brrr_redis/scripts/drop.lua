-- Deletes up to LIMIT dead letters, the oldest first. ARGV: limit. Gives how many, and how many are left.

local there = redis.call('LLEN', DEAD)
redis.call('LTRIM', DEAD, ARGV[1], -1)
local left = redis.call('LLEN', DEAD)
return {there - left, left}
