-- Puts up to LIMIT dead letters back as new messages, the oldest first. ARGV: limit. Returns how many, and how many
-- are left.

write_first()
local dead_letters = redis.call('LRANGE', DEAD, 0, ARGV[1] - 1)
local bodies = {}
for index, dead_letter in ipairs(dead_letters) do
  local first = string.find(dead_letter, ':', 1, true)
  local second = string.find(dead_letter, ':', first + 1, true)
  local third = string.find(dead_letter, ':', second + 1, true)
  bodies[index] = string.sub(dead_letter, third + 1 + tonumber(string.sub(dead_letter, second + 1, third - 1)))
end
call_in_chunks('RPUSH', READY, bodies)
redis.call('LTRIM', DEAD, #bodies, -1)
return {#bodies, redis.call('LLEN', DEAD)}
