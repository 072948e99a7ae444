-- Returns dead letters by their ids. ARGV: the time and the digest of each.

local letters = chosen(1)
return letters
