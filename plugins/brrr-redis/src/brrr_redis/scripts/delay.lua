-- Puts messages that become ready later. ARGV: delay, token, bodies.

local scored = {}
for place = 3, #ARGV do
  scored[#scored + 1] = now + tonumber(ARGV[1])
  scored[#scored + 1] = join(ARGV[2], place, 0, ARGV[place])
end
chunked('ZADD', DELAYED, scored)
