-- Undoes a claim whose receiver is gone: its messages are first in line again, and the attempt does not count.
-- ARGV: token.

local members = claimed_by(ARGV[1])
for place = #members, 1, -1 do
  local attempt, body = split(members[place])
  redis.call('ZREM', LEASES, members[place])
  remember(body, attempt - 1)
  redis.call('LPUSH', READY, body)
end
