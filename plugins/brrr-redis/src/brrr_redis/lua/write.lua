-- Sets keys that are to be forgotten. KEYS: keys. ARGV: ttl in milliseconds, values.

for place, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[place + 1], 'PX', ARGV[1])
end
