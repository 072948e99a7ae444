-- Compares and sets keys, one after the other. KEYS: keys, with repeats. ARGV: for each key its ttl in milliseconds or 0,
-- what is expected and what is new: '-' for absence, '+' before a value. Gives 1 for each that took place, else 0.

local done = {}
for place, key in ipairs(KEYS) do
  local ttl, expected, new = ARGV[3 * place - 2], ARGV[3 * place - 1], ARGV[3 * place]
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
