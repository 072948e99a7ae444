-- Deletes dead letters by their ids. ARGV: 1 to put them back as new messages first, else 0; the time and the digest of
-- each. Returns how many.

local letters, indexes = chosen(2)
if #letters > 0 then
  redis.call('LREM', INBOX, 1, '') -- fails here if the login may not, and not after LSET has emptied dead letters
  if ARGV[1] == '1' then
    local bodies = {}
    for index, letter in ipairs(letters) do
      bodies[index] = body_of(letter)
    end
    call_in_chunks('RPUSH', READY, bodies)
  end
  for _, index in ipairs(indexes) do
    redis.call('LSET', DEAD, index, '') -- no dead letter is empty
  end
  redis.call('LREM', DEAD, 0, '')
end
return #letters
