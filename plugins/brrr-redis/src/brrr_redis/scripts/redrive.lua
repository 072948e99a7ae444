-- Puts up to LIMIT dead letters back as new messages, the oldest first. ARGV: limit. Returns how many, and how many
-- are left.

write_first()
local dead_letters = redis.call('LRANGE', DEAD, 0, ARGV[1] - 1)
local bodies = {}
for index, dead_letter in ipairs(dead_letters) do
  bodies[index] = body_of(dead_letter)
end
call_in_chunks('RPUSH', READY, bodies)
redis.call('LTRIM', DEAD, #bodies, -1)
return {#bodies, redis.call('LLEN', DEAD)}
