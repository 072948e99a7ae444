-- Compares and sets keys, one after the other. KEYS: keys, with repeats. ARGV: ttl in milliseconds or 0, and for each
-- key what is expected and what is new: '-' for absence, '+' before a value. Gives 1 for each that took place, else 0.

local ttl, done = ARGV[1], {}
for place, key in ipairs(KEYS) do
  local expected, new = ARGV[2 * place], ARGV[2 * place + 1]
  local there = redis.call('GET', key)
  if (there and '+' .. there or '-') ~= expected then
    done[place] = 0
  else
    done[place] = 1
    if new ~= '-' then
      if ttl == '0' then
        redis.call('SET', key, string.sub(new, 2))
      else
        redis.call('SET', key, string.sub(new, 2), 'PX', ttl)
      end
    elseif there then
      redis.call('DEL', key)
    end
  end
end
return done
