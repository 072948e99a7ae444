-- Defines the functions that all scripts of a topic use. `clock.lua` comes before it.
-- If a command of a script fails, its earlier writes stay. So a script adds a message to its new place before it
-- removes it from the old one: an error causes a duplicate, and never loses a message.

local READY, INBOX, LEASES, DELAYED, ATTEMPTS, DEAD
local CHUNK_SIZE = 1000 -- arguments of one command: Lua's stack holds 8,000
local ATTEMPTS_TTL = 604800000 -- a week in milliseconds; after it, a message on the list is attempt 1 again

-- Selects the topic on which the functions below work. FIRST: the index of its first key.
local function use_topic(first)
  READY, INBOX, LEASES, DELAYED, ATTEMPTS, DEAD = unpack(KEYS, first, first + 5)
end

use_topic(1)

-- Calls a command with many arguments in chunks, and returns the sum of the results.
local function call_in_chunks(command, first, arguments)
  local sum = 0
  for begin = 1, #arguments, CHUNK_SIZE do
    local last = math.min(begin + CHUNK_SIZE - 1, #arguments)
    sum = sum + redis.call(command, first, unpack(arguments, begin, last))
  end
  return sum
end

-- Makes a write without effect, so that a full server runs the rest of the script: it refuses commands that need memory
-- only before the first write. If the login may not remove messages, or LEASES has another type, the script fails here,
-- before it moves a message.
local function write_first()
  redis.call('ZREM', LEASES, '')
end

-- Returns the members of a claim, in the order of the claim.
local function claimed_by(token)
  local members, seen, cursor = {}, {}, '0'
  repeat
    local page = redis.call('ZSCAN', LEASES, cursor, 'MATCH', token .. '.*', 'COUNT', CHUNK_SIZE)
    cursor = page[1]
    for index = 1, #page[2], 2 do -- every second element is a score
      local member = page[2][index]
      if not seen[member] then -- a scan may return a member twice
        seen[member] = true
        members[#members + 1] = member
      end
    end
  until cursor == '0'
  table.sort(members)
  return members
end

-- Renews the leases that have not expired. FIRST: the index of the first member.
local function renew_leases(lease, members, first)
  for begin = first, #members, CHUNK_SIZE / 2 do
    local scores_and_members = {}
    for index = begin, math.min(begin + CHUNK_SIZE / 2 - 1, #members) do
      scores_and_members[#scores_and_members + 1] = now + lease
      scores_and_members[#scores_and_members + 1] = members[index]
    end
    redis.call('ZADD', LEASES, 'XX', unpack(scores_and_members))
  end
end

-- Splits `ID:ATTEMPT:BODY`.
local function split_member(member)
  local first = string.find(member, ':', 1, true)
  local second = string.find(member, ':', first + 1, true)
  return tonumber(string.sub(member, first + 1, second - 1)), string.sub(member, second + 1)
end

-- The list has plain bodies, because consumers in other languages take them too. A hash has the attempts of a body, as
-- one number for each of equal bodies. Its field 'n' counts these numbers.
local function attempts_field(body)
  if #body > 128 then
    return 's' .. redis.sha1hex(body)
  end
  return 'b' .. body
end

local function add_attempt(body, attempt)
  if attempt > 0 then
    local known = redis.call('HGET', ATTEMPTS, attempts_field(body))
    redis.call('HSET', ATTEMPTS, attempts_field(body), known and known .. ',' .. attempt or attempt)
    redis.call('HINCRBY', ATTEMPTS, 'n', 1)
    redis.call('PEXPIRE', ATTEMPTS, ATTEMPTS_TTL)
  end
end

local function take_attempt(body)
  local known = redis.call('HGET', ATTEMPTS, attempts_field(body))
  if not known then
    return 0
  end
  local comma = string.find(known, ',', 1, true)
  if comma then
    redis.call('HSET', ATTEMPTS, attempts_field(body), string.sub(known, comma + 1))
  else
    redis.call('HDEL', ATTEMPTS, attempts_field(body))
  end
  if redis.call('HINCRBY', ATTEMPTS, 'n', -1) <= 0 then
    redis.call('DEL', ATTEMPTS)
  end
  return tonumber(comma and string.sub(known, 1, comma - 1) or known)
end

-- Consumers in other languages take bodies and leave their attempts in the hash. If it has more attempts than there are
-- bodies, some are stale. Which ones is unknown, so all are deleted. ADDED: the bodies that the script will add.
local function delete_stale_attempts(added)
  local stored = tonumber(redis.call('HGET', ATTEMPTS, 'n') or 0)
  if stored > 0 and stored > redis.call('LLEN', READY) + redis.call('LLEN', INBOX) + added then
    redis.call('DEL', ATTEMPTS)
  end
end

-- Puts members of a sorted set at the end of the list.
local function make_ready(members)
  local bodies = {}
  for index, member in ipairs(members) do
    local attempt, body = split_member(member)
    add_attempt(body, attempt)
    bodies[index] = body
  end
  delete_stale_attempts(#bodies)
  call_in_chunks('RPUSH', READY, bodies)
end

-- Makes due messages ready: expired leases and ended delays. This wakes blocked consumers.
local function sweep()
  write_first()
  for _, zset in ipairs({LEASES, DELAYED}) do
    local members = redis.call('ZRANGEBYSCORE', zset, '-inf', now, 'LIMIT', 0, CHUNK_SIZE)
    if #members > 0 then
      make_ready(members)
      redis.call('ZREM', zset, unpack(members))
    end
  end
end

-- Returns the milliseconds until the next message is due, or -1 if there is none.
local function due_in()
  local soonest = -1
  for _, zset in ipairs({LEASES, DELAYED}) do
    local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
    if first[2] then
      local left = math.max(0, tonumber(first[2]) - now)
      if soonest < 0 or left < soonest then
        soonest = left
      end
    end
  end
  return soonest
end
