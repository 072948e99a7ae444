-- Reads keys, and restarts the ttl of expiring keys if little of it is left. KEYS: keys. ARGV: ttl in milliseconds, and
-- the rest in milliseconds below which it is restarted. Returns the values, and the indexes of the
-- refreshed keys.

local values, refreshed, least = {}, {}, tonumber(ARGV[2])
for first = 1, #KEYS, 1000 do -- Lua passes at most some thousands of arguments
  local last = math.min(first + 999, #KEYS)
  for offset, value in ipairs(redis.call('MGET', unpack(KEYS, first, last))) do
    local index = first + offset - 1
    values[index] = value
    if value then
      local left = redis.call('PTTL', KEYS[index])
      if left >= 0 and left < least then
        redis.call('PEXPIRE', KEYS[index], ARGV[1])
        refreshed[#refreshed + 1] = index
      end
    end
  end
end
return {values, refreshed}
