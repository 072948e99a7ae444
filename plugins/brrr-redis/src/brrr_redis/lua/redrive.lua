-- Puts up to LIMIT dead letters back as new messages, the oldest first. ARGV: limit. Gives how many.

local letters = redis.call('LPOP', DEAD, ARGV[1]) or {}
local bodies = {}
for place, letter in ipairs(letters) do
  local first = string.find(letter, ':', 1, true)
  local second = string.find(letter, ':', first + 1, true)
  local third = string.find(letter, ':', second + 1, true)
  bodies[place] = string.sub(letter, third + 1 + tonumber(string.sub(letter, second + 1, third - 1)))
end
chunked('RPUSH', READY, bodies)
return #bodies
