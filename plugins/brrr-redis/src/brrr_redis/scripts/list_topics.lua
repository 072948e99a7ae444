-- Scans keys from a cursor. Returns the next cursor, and the scanned keys that belong to topics. ARGV: cursor, pattern, prefix, count.
-- It checks names first: most keys are records, and reading the type of a key takes longer.

local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[4])
local keys, begin = {}, #ARGV[3] + 1
for _, key in ipairs(page[2]) do
  local name = string.sub(key, begin)
  local ours = string.sub(name, 1, 5) == 'brrr:' or string.sub(name, 1, 11) == 'brrr_count/'
  if string.sub(name, 1, 6) == 'brrr:{' or not ours and redis.call('TYPE', key).ok == 'list' then
    keys[#keys + 1] = key
  end
end
return {page[1], keys}
