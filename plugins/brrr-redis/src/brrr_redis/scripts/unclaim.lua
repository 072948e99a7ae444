-- Gives back what receivers who are gone would have taken: it is first in line again. ARGV: token of a claim, whose
-- attempt then does not count, or '' for what a blocked consumer moved alone.

insist()
while redis.call('LMOVE', INBOX, READY, 'RIGHT', 'LEFT') do
end
local members = ARGV[1] == '' and {} or claimed_by(ARGV[1])
for place = #members, 1, -1 do
  local attempt, body = split(members[place])
  remember(body, attempt - 1)
  redis.call('LPUSH', READY, body)
  redis.call('ZREM', LEASES, members[place])
end
