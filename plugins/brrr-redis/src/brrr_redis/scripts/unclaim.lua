-- Puts messages of the inbox and of a cancelled claim back at the head of the topic. ARGV: token of the claim, whose
-- attempt does not count, or '' for the inbox alone.

write_first()
while redis.call('LMOVE', INBOX, READY, 'RIGHT', 'LEFT') do
end
local members = ARGV[1] == '' and {} or claimed_by(ARGV[1])
for index = #members, 1, -1 do
  local attempt, body = split_member(members[index])
  add_attempt(body, attempt - 1)
  redis.call('LPUSH', READY, body)
  redis.call('ZREM', LEASES, members[index])
end
