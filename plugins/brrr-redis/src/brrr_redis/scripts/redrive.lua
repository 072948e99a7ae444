-- Puts up to LIMIT dead letters back as new messages, the oldest first. ARGV: limit. Gives how many, and how many are
-- left.

insist()
local letters = redis.call('LRANGE', DEAD, 0, ARGV[1] - 1)
local bodies = {}
for place, letter in ipairs(letters) do
  local first = string.find(letter, ':', 1, true)
  local second = string.find(letter, ':', first + 1, true)
  local third = string.find(letter, ':', second + 1, true)
  bodies[place] = string.sub(letter, third + 1 + tonumber(string.sub(letter, second + 1, third - 1)))
end
chunked('RPUSH', READY, bodies)
redis.call('LTRIM', DEAD, #bodies, -1)
return {#bodies, redis.call('LLEN', DEAD)}
