-- Gives back what is leased, ready after a delay. ARGV: delay, members.

sweep()
local delay, given, scored, seen = tonumber(ARGV[1]), {}, {}, {}
for place = 2, #ARGV do
  local member = ARGV[place]
  if not seen[member] and redis.call('ZSCORE', LEASES, member) then
    seen[member] = true
    given[#given + 1] = member
    scored[#scored + 1] = now + delay
    scored[#scored + 1] = member
  end
end
if delay > 0 then
  chunked('ZADD', DELAYED, scored)
else
  relist(given)
end
chunked('ZREM', LEASES, given)
