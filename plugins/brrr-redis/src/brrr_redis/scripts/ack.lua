-- Acknowledges: removes leased messages. ARGV: members.

sweep() -- an expired lease is over, even if no claim has moved its message yet
call_in_chunks('ZREM', LEASES, ARGV)
