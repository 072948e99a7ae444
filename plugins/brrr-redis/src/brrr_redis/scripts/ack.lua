-- Removes what is leased, for good. ARGV: members.

sweep() -- a lease that has run out is over, whether somebody looked since or not
chunked('ZREM', LEASES, ARGV)
