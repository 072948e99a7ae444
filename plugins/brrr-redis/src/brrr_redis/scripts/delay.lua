-- Puts messages that become ready after a delay. ARGV: delay, token, bodies.

local scores_and_members = {}
for index = 3, #ARGV do
  scores_and_members[#scores_and_members + 1] = now + tonumber(ARGV[1])
  scores_and_members[#scores_and_members + 1] = join_member(ARGV[2], index, 0, ARGV[index])
end
call_in_chunks('ZADD', DELAYED, scores_and_members)
