-- Releases leased messages, ready after a delay. ARGV: delay, members.

sweep()
local delay, released, scores_and_members, seen = tonumber(ARGV[1]), {}, {}, {}
for index = 2, #ARGV do
  local member = ARGV[index]
  if not seen[member] and redis.call('ZSCORE', LEASES, member) then
    seen[member] = true
    released[#released + 1] = member
    scores_and_members[#scores_and_members + 1] = now + delay
    scores_and_members[#scores_and_members + 1] = member
  end
end
if delay > 0 then
  call_in_chunks('ZADD', DELAYED, scores_and_members)
else
  make_ready(released)
end
call_in_chunks('ZREM', LEASES, released)
