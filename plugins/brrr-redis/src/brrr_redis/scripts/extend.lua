-- Starts leases anew. ARGV: lease, members.

sweep()
lease_anew(tonumber(ARGV[1]), ARGV, 2)
