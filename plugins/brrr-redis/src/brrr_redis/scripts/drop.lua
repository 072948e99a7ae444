-- Deletes up to LIMIT dead letters, the oldest first. ARGV: limit. Returns how many, and how many are left.

local before = redis.call('LLEN', DEAD)
redis.call('LTRIM', DEAD, ARGV[1], -1)
local left = redis.call('LLEN', DEAD)
return {before - left, left}
