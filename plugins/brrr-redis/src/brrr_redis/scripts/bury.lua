-- Moves a leased message to the dead letters. ARGV: member, reason.
-- Dead letters are in the order of their times, even if the clock was set back: letters.lua searches by time.

sweep()
if redis.call('ZSCORE', LEASES, ARGV[1]) then
  local attempt, body = split_member(ARGV[1])
  local last = redis.call('LINDEX', DEAD, -1)
  local time = math.max(now, last and time_of(last) or 0)
  redis.call('RPUSH', DEAD, string.format('%d:%.0f:%d:', attempt, time, #ARGV[2]) .. ARGV[2] .. body)
  redis.call('ZREM', LEASES, ARGV[1])
end
