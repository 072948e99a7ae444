-- Extends leases. ARGV: lease, members.

sweep()
renew_leases(tonumber(ARGV[1]), ARGV, 2)
