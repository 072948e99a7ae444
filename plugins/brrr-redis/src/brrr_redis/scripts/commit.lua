-- Applies steps, one after another. KEYS: the six keys of each topic; then for each step the keys of its expected records,
-- its counters, its writes, its marks, and the records to read with each leased message. A record that expires has a second
-- key: its call record, or its own.
-- ARGV: lease, ttl of counters, ttl of values and the rest of it below which a read restarts it, in milliseconds; token,
-- number of topics, number of records to read with a message; then for each step its lengths, and of each
--   expected record: '-' for no value, '+' before a value;
--   count: the amount, and the most that the counter may be before it;
--   write: 'set', 'tell' (set, and publish for waiting clients), 'expire' or 'expire and tell', and the value;
--   message: the index of its topic's first key; 'ready', 'leased' or a delay in milliseconds; the body;
--   mark: as a write; or 'delete' or, for a record that expires, 'forget', and an empty value;
--   ack: the index of its topic's first key, and the member.
-- The lengths are eight numbers of four bytes: those of the fields in this order, of the leased messages, and of the keys.
-- Returns for each step nil if it was not applied, else the member and the records of each leased message.
-- Errors that can be checked before are raised before the first effect of a step. If a step has a command that a full
-- server refuses, the first write is such a command: so a refused step has no effect.
-- A function call costs as much as six words, and a command as much as six function calls. So sequential parts are inline.

local call, COUNTER_TTL, TTL, READ = redis.call, ARGV[2], ARGV[3], tonumber(ARGV[7])
local argument, key = 7, 6 * ARGV[6] -- the last ones that were read
local index = 0 -- of the message
local checked = {} -- the keys of which the type is known
local LENGTHS = '>I4I4I4I4I4I4I4I4'

-- Returns whether an integer is at most another one. Both are decimal text: a Lua number would round them.
local function at_most(count, most)
  local negative = string.sub(count, 1, 1) == '-'
  if negative ~= (string.sub(most, 1, 1) == '-') then
    return negative
  end
  if #count ~= #most then
    return (#count < #most) ~= negative
  end
  return count == most or (count < most) ~= negative
end

-- Returns whether the records that follow are as expected, and no counter will exceed its limit.
local function holds(expected, counts)
  for offset = 1, expected do
    local record = call('GET', KEYS[key + offset])
    if (record and '+' .. record or '-') ~= ARGV[argument + offset] then
      return false
    end
  end
  for offset = 1, counts do
    local counter = KEYS[key + expected + offset]
    local count = call('GET', counter) or '0'
    if not string.find(count, '^%-?%d+$') then
      call('INCRBY', counter, 0) -- raises its error
    end
    if not at_most(count, ARGV[argument + expected + 2 * offset]) then
      return false
    end
  end
  return true
end

-- Returns the acknowledgements whose leases still exist: the index of the topic's first key, the member, and whether the
-- lease has expired. FIRST: the argument before those of acknowledgements.
local function find_leases(first, acks)
  local held = {}
  for offset = first + 1, first + 2 * acks, 2 do
    local topic, member = ARGV[offset], ARGV[offset + 1]
    local ends = call('ZSCORE', KEYS[topic + 2], member)
    checked[topic + 2] = true
    if ends then
      held[#held + 1] = {topic, member, ends + 0 <= now}
    end
  end
  return held
end

-- Raises the error of a key of another type under which a message will be put. FIRST: the argument before those of messages.
local function check_places(first, messages)
  for offset = first + 1, first + 3 * messages, 3 do
    local how = ARGV[offset + 1]
    local place = ARGV[offset] + (how == 'ready' and 0 or how == 'leased' and 2 or 3)
    if not checked[place] then
      checked[place] = true
      call(how == 'ready' and 'LLEN' or 'ZCARD', KEYS[place])
    end
  end
end

local function set_records(count)
  for _ = 1, count do
    local how, value, record = ARGV[argument + 1], ARGV[argument + 2], KEYS[key + 1]
    argument, key = argument + 2, key + 1
    if how == 'set' or how == 'tell' then
      call('SET', record, value)
    elseif how == 'delete' then
      call('DEL', record)
    else
      key = key + 1
      if how == 'forget' then
        call('DEL', record)
        call('PERSIST', KEYS[key])
      else
        call('SET', record, value, 'PX', TTL)
        call('PEXPIRE', KEYS[key], TTL)
      end
    end
    if how == 'tell' or how == 'expire and tell' then
      redis.pcall('PUBLISH', record, '') -- pcall: a login that may not publish can still commit
    end
  end
end

-- Puts messages. Returns the members of those that were leased.
local function put_messages(count)
  local leased = {}
  for _ = 1, count do
    local topic, how, body = ARGV[argument + 1], ARGV[argument + 2], ARGV[argument + 3]
    argument, index = argument + 3, index + 1
    if how == 'ready' then
      call('RPUSH', KEYS[topic + 0], body)
    elseif how == 'leased' then
      local member = join_member(lease_batch(ARGV[5]), index, 1, body)
      call('ZADD', KEYS[topic + 2], now + ARGV[1], member)
      leased[#leased + 1] = member
    else
      call('ZADD', KEYS[topic + 3], now + how, join_member(ARGV[5], index, 0, body))
    end
  end
  return leased
end

-- Acknowledges. Before, it makes messages with expired leases ready, if no claim has done so yet.
local function acknowledge(held)
  for _, ack in ipairs(held) do
    local topic, member, expired = unpack(ack)
    if expired then
      sweep_topic(topic + 0)
    end
    call('ZREM', KEYS[topic + 2], member)
  end
end

-- Returns the records to read with the next message that was leased.
local function read_records()
  local first = key + 1
  key = key + READ
  local records = call('MGET', unpack(KEYS, first, key))
  if TTL ~= '0' then
    key = key + READ -- the call records that expire with values, or the record itself
    for offset = 0, READ - 1 do
      local left = records[offset + 1] and call('PTTL', KEYS[first + offset]) or -1
      if left >= 0 and left < tonumber(ARGV[4]) then
        call('PEXPIRE', KEYS[first + offset], TTL)
        call('PEXPIRE', KEYS[first + READ + offset], TTL)
      end
    end
  end
  return records
end

local results, last, last_key = {}, #ARGV, nil
while argument < last do
  local expected, counts, writes, messages, marks, acks, leases, keys = struct.unpack(LENGTHS, ARGV[argument + 1])
  argument, last_key = argument + 1, key + keys
  local first_message = argument + expected + 2 * (counts + writes)
  local first_ack = first_message + 3 * messages + 2 * marks
  if holds(expected, counts) then
    local held = find_leases(first_ack, acks)
    check_places(first_message, messages)
    argument, key = argument + expected, key + expected
    for offset = 1, counts do
      call('INCRBY', KEYS[key + offset], ARGV[argument + 2 * offset - 1])
      call('PEXPIRE', KEYS[key + offset], COUNTER_TTL)
    end
    argument, key = argument + 2 * counts, key + counts
    set_records(writes)
    local leased = put_messages(messages)
    set_records(marks)
    acknowledge(held)
    for place = 1, leases do
      leased[place] = {leased[place], READ > 0 and read_records() or {}}
    end
    results[#results + 1] = leased
  else
    results[#results + 1] = false
  end
  argument, key = first_ack + 2 * acks, last_key
end
return results
