-- Compares and sets keys, one after the other. KEYS: keys, which may repeat. ARGV: for each key its ttl in milliseconds
-- or 0, the expected and the new value: '-' for no value, '+' before a value. Returns 1 for each swap that took place,
-- else 0.

local done = {}
for index, key in ipairs(KEYS) do
  local ttl, expected, new = ARGV[3 * index - 2], ARGV[3 * index - 1], ARGV[3 * index]
  local current = redis.call('GET', key)
  if (current and '+' .. current or '-') ~= expected then
    done[index] = 0
  else
    done[index] = 1
    if new ~= '-' then
      if ttl == '0' then
        redis.call('SET', key, string.sub(new, 2))
      else
        redis.call('SET', key, string.sub(new, 2), 'PX', ttl)
      end
    elseif current then
      redis.call('DEL', key)
    end
  end
end
return done
