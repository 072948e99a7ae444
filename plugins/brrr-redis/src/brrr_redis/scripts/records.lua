-- Reads the records of messages. Readings are words in ARGV: the ttl in milliseconds or 0, the milliseconds below which it
-- is restarted, and the number of readings. Then for each reading 'root_id' or 'call_hash', the beginning of its key,
-- and, if it reads values of calls, the beginning of the keys of their call records, else ''.

-- Returns the root id and the call hash of a schedule message, as `split_message` of brrr does. Returns nothing for another body.
local function split_body(body)
  if string.sub(body, 1, 4) ~= 'li2e' then
    return
  end
  local at, parts = 5, {}
  for index = 1, 2 do
    local _, colon, length = string.find(body, '^(%d+):', at)
    if not colon or colon > at + 19 then
      return
    end
    local part = string.sub(body, colon + 1, colon + length)
    if #part ~= tonumber(length) or string.find(part, '[\128-\255]') then
      return
    end
    parts[index] = part
    at = colon + 1 + length
  end
  if string.sub(body, at) == 'e' then
    return parts[1], parts[2]
  end
end

-- Returns the records of a message, and their size in bytes. Returns false and 0 for a body of another kind. FIRST: the
-- index of the first word of the readings.
local function read_records(body, first)
  local root_id, call_hash = split_body(body)
  if not root_id then
    return false, 0
  end
  local keys, bytes = {}, 0
  for index = 1, ARGV[first + 2] do
    keys[index] = ARGV[first + 3 * index + 1] .. (ARGV[first + 3 * index] == 'root_id' and root_id or call_hash)
  end
  local records = #keys > 0 and redis.call('MGET', unpack(keys)) or {}
  for index, record in ipairs(records) do
    bytes = bytes + (record and #record or 0)
    local left = record and ARGV[first] ~= '0' and redis.call('PTTL', keys[index]) or -1
    if left >= 0 and left < tonumber(ARGV[first + 1]) then
      redis.call('PEXPIRE', keys[index], ARGV[first])
      local call = ARGV[first + 3 * index + 2]
      local part = ARGV[first + 3 * index] == 'root_id' and root_id or call_hash
      if call ~= '' and string.sub(part, 1, 5) ~= 'brrr.' then
        redis.call('PEXPIRE', call .. part, ARGV[first])
      end
    end
  end
  return records, bytes
end
