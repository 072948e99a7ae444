-- Adds to counters. KEYS: keys. ARGV: ttl in milliseconds, amounts. Returns the counters, as text if a Lua number
-- would round them.

local counts = {}
for index, key in ipairs(KEYS) do
  local amount = ARGV[index + 1]
  if amount == '0' then
    counts[index] = redis.call('GET', key) or 0
  else
    local count = redis.call('INCRBY', key, amount)
    redis.call('PEXPIRE', key, ARGV[1])
    if count > 9007199254740991 or count < -9007199254740991 then
      count = redis.call('GET', key)
    end
    counts[index] = count
  end
end
return counts
