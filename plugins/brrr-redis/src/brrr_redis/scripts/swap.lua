-- Compares and sets keys, one after another. ARGV: for each swap its ttl in milliseconds or 0, the expected and the new
-- value: '-' for no value, '+' before a value; and the command that tells clients of the record, 'PUBLISH' or 'SPUBLISH', or
-- '' if none may wait for it. KEYS: the key of each swap, which may repeat. Then, if call records are on this server, a key
-- for each swap with a ttl: it expires with the value, and stays if there is no value. Returns 1 for each swap that took
-- place, else 0.

local swaps = #ARGV / 4
local done, extra = {}, swaps
for index = 1, swaps do
  local key, ttl, expected, new = KEYS[index], ARGV[4 * index - 3], ARGV[4 * index - 2], ARGV[4 * index - 1]
  local current = redis.call('GET', key)
  local there = current
  if (current and '+' .. current or '-') ~= expected then
    done[index] = 0
  else
    done[index] = 1
    there = new ~= '-'
    if there then
      if ttl == '0' then
        redis.call('SET', key, string.sub(new, 2))
      else
        redis.call('SET', key, string.sub(new, 2), 'PX', ttl)
      end
      if not current and ARGV[4 * index] ~= '' then
        redis.pcall(ARGV[4 * index], key, '') -- pcall: a login that may not publish can still swap
      end
    elseif current then
      redis.call('DEL', key)
    end
  end
  if ttl ~= '0' and #KEYS > swaps then
    extra = extra + 1
    if there then
      redis.call('PEXPIRE', KEYS[extra], ttl)
    else
      redis.call('PERSIST', KEYS[extra])
    end
  end
end
return done
