-- Moves what is leased to the dead letters. ARGV: member, reason.

sweep()
if redis.call('ZSCORE', LEASES, ARGV[1]) then
  local attempt, body = split(ARGV[1])
  redis.call('RPUSH', DEAD, attempt .. ':' .. now .. ':' .. #ARGV[2] .. ':' .. ARGV[2] .. body)
  redis.call('ZREM', LEASES, ARGV[1])
end
