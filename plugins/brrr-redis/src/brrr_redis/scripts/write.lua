-- Sets keys, some of which expire. KEYS: keys. ARGV: for each key its ttl in milliseconds or 0, and its value.

for index, key in ipairs(KEYS) do
  local ttl, value = ARGV[2 * index - 1], ARGV[2 * index]
  if ttl == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', ttl)
  end
end
