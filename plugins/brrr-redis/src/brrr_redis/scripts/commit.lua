-- Applies steps, one after the other. KEYS: the six keys of each topic; then for each step the keys of its expected records,
-- its counters, its writes and its marks. A record that expires has a second key: its call record, or its own.
-- ARGV: lease, ttl of counters in milliseconds, token, number of topics; then readings, as `records.lua` says; then for each
-- step the number of its keys and the lengths of its fields, and of each
--   expected record: '-' for no value, '+' before a value;
--   count: the amount, and the most that the counter may be before it;
--   write: 'set' or 'expire', followed by ' publish' if clients may wait for the record; and the value;
--   message: the index of its topic's first key; 'ready', 'leased' or a delay in milliseconds; the body;
--   mark: as a write; or 'delete' or, for a record that expires, 'forget', and an empty value;
--   ack: the index of its topic's first key, and the member.
-- Returns for each step nil if it was not applied, else the member and the records of each leased message.
-- Every error that can be foreseen is raised before the first effect of its step. The first command that writes is one that a
-- full server refuses, if the step has one: so the refused step has no effect.

local LEASE, COUNTER_TTL, TOKEN, READINGS, TTL = tonumber(ARGV[1]), ARGV[2], ARGV[3], 5, ARGV[5]
local argument, key = 7 + 3 * ARGV[7], 6 * ARGV[4] -- the last ones that were read
local index = 0 -- of the message
local checked = {}

local function next_argument()
  argument = argument + 1
  return ARGV[argument]
end

local function next_key()
  key = key + 1
  return KEYS[key]
end

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
    local record = redis.call('GET', KEYS[key + offset])
    if (record and '+' .. record or '-') ~= ARGV[argument + offset] then
      return false
    end
  end
  for offset = 1, counts do
    local counter = KEYS[key + expected + offset]
    local count = redis.call('GET', counter) or '0'
    if not string.find(count, '^%-?%d+$') then
      redis.call('INCRBY', counter, 0) -- raises its error
    end
    if not at_most(count, ARGV[argument + expected + 2 * offset]) then
      return false
    end
  end
  return true
end

-- Raises the error of a key of another type under which a message will be put. FIRST: the argument before those of messages.
local function check_places(first, messages)
  for offset = 1, messages do
    local topic, how = ARGV[first + 3 * offset - 2], ARGV[first + 3 * offset - 1]
    local place = tonumber(topic) + (how == 'ready' and 0 or how == 'leased' and 2 or 3)
    if not checked[place] then
      checked[place] = true
      redis.call(how == 'ready' and 'LLEN' or 'ZCARD', KEYS[place])
    end
  end
end

local function set_record()
  local how, value, record = next_argument(), next_argument(), next_key()
  local told = string.find(how, ' publish', 1, true)
  if string.find(how, '^set') then
    redis.call('SET', record, value)
  elseif string.find(how, '^expire') then
    redis.call('SET', record, value, 'PX', TTL)
    redis.call('PEXPIRE', next_key(), TTL)
  else
    redis.call('DEL', record)
    if how == 'forget' then
      redis.call('PERSIST', next_key())
    end
  end
  if told then
    redis.pcall('PUBLISH', record, '') -- pcall: a login that may not publish can still commit
  end
end

-- Puts the next message. Returns its member and its body if it was leased.
local function put_message()
  use_topic(tonumber(next_argument()))
  local how, body = next_argument(), next_argument()
  index = index + 1
  if how == 'ready' then
    redis.call('RPUSH', READY, body)
  elseif how == 'leased' then
    local member = join_member(lease_batch(TOKEN), index, 1, body)
    redis.call('ZADD', LEASES, now + LEASE, member)
    return member, body
  else
    redis.call('ZADD', DELAYED, now + tonumber(how), join_member(TOKEN, index, 0, body))
  end
end

local function acknowledge()
  use_topic(tonumber(next_argument()))
  local member = next_argument()
  local ends = redis.call('ZSCORE', LEASES, member)
  if ends and tonumber(ends) <= now then -- an expired lease has ended, even if no claim has moved its message yet
    sweep()
  end
  redis.call('ZREM', LEASES, member)
end

local function apply(counts, writes, messages, marks, acks)
  local leased = {}
  for _ = 1, counts do
    local counter = next_key()
    redis.call('INCRBY', counter, next_argument())
    redis.call('PEXPIRE', counter, COUNTER_TTL)
    argument = argument + 1
  end
  for _ = 1, writes do
    set_record()
  end
  for _ = 1, messages do
    local member, body = put_message()
    if member then
      leased[#leased + 1] = {member, body}
    end
  end
  for _ = 1, marks do
    set_record()
  end
  for _ = 1, acks do
    acknowledge()
  end
  for _, each in ipairs(leased) do
    each[2] = read_records(each[2], READINGS)
  end
  return leased
end

local results = {}
while argument < #ARGV do
  local lengths = {unpack(ARGV, argument + 1, argument + 7)}
  for field, length in ipairs(lengths) do
    lengths[field] = tonumber(length)
  end
  local keys, expected, counts, writes, messages, marks, acks = unpack(lengths)
  argument = argument + 7
  local next_step, next_step_key = argument + expected + 2 * (counts + writes + marks + acks) + 3 * messages, key + keys
  if holds(expected, counts) then
    check_places(argument + expected + 2 * (counts + writes), messages)
    argument, key = argument + expected, key + expected
    results[#results + 1] = apply(counts, writes, messages, marks, acks)
  else
    results[#results + 1] = false
  end
  argument, key = next_step, next_step_key
end
return results
