-- Returns dead letters, the oldest first. ARGV: limit; then, to begin after a dead letter, its time and its digest. If it
-- is gone, begins at the first of its time.

local begin = 0
if ARGV[2] then
  local time = tonumber(ARGV[2])
  begin = first_since(time)
  visit_since(time, function(index, _, digest)
    if digest == ARGV[3] then
      begin = index + 1
    end
  end)
end
return redis.call('LRANGE', DEAD, begin, begin + ARGV[1] - 1)
