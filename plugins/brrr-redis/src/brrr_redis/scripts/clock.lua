-- Defines the clock of the server in milliseconds, which all consumers share, and the members of the sorted sets.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Returns `ID:ATTEMPT:BODY`. A sorted set orders members of one score by their bytes, so the index has a fixed length.
local function join_member(batch, index, attempt, body)
  return string.format('%s.%06d:%d:', batch, index, attempt) .. body
end

-- Returns the beginning of the ids of messages that this script leases. The time distinguishes them from those of a script
-- with the same token that the server reads later, from a lost connection.
local function lease_batch(token)
  return token .. '.' .. clock[1] .. string.format('%06d', clock[2])
end
