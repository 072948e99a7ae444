-- Moves a leased message to the dead letters. ARGV: member, reason.

sweep()
if redis.call('ZSCORE', LEASES, ARGV[1]) then
  local attempt, body = split_member(ARGV[1])
  redis.call('RPUSH', DEAD, attempt .. ':' .. now .. ':' .. #ARGV[2] .. ':' .. ARGV[2] .. body)
  redis.call('ZREM', LEASES, ARGV[1])
end
