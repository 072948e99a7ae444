-- What all scripts of a topic begin with. Times are milliseconds by the server's clock, which all consumers share.
-- What a script has written stays where a later command of it fails. So a message is added to its new place before it
-- is removed from the old one: an error costs a duplicate, never a message.

local READY, INBOX, LEASES, DELAYED, ATTEMPTS, DEAD = unpack(KEYS)
local CHUNK = 1000 -- arguments of one command: Lua's stack holds 8,000
local FORGET = 604800000 -- a week: attempts of what lies on a list for longer count anew

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Calls a command with many arguments, in as many calls as it takes. Gives the sum of what they give.
local function chunked(command, first, arguments)
  local sum = 0
  for begin = 1, #arguments, CHUNK do
    local last = math.min(begin + CHUNK - 1, #arguments)
    sum = sum + redis.call(command, first, unpack(arguments, begin, last))
  end
  return sum
end

-- Has what follows done by a full server too: it refuses what may grow, but not after a script's first write. And who
-- may not remove what was moved, or whose leases are no sorted set, fails here, before anything is moved.
local function insist()
  redis.call('ZREM', LEASES, '')
end

-- `ID:ATTEMPT:BODY`. Sorted sets order what has one score by its bytes, so that the places of a batch have one length.
local function join(batch, place, attempt, body)
  return string.format('%s.%06d:%d:', batch, place, attempt) .. body
end

-- The members of a claim, in the order in which they were claimed.
local function claimed_by(token)
  local members, seen, cursor = {}, {}, '0'
  repeat
    local page = redis.call('ZSCAN', LEASES, cursor, 'MATCH', token .. '.*', 'COUNT', CHUNK)
    cursor = page[1]
    for place = 1, #page[2], 2 do -- the scores stand between
      local member = page[2][place]
      if not seen[member] then -- a scan may give one twice
        seen[member] = true
        members[#members + 1] = member
      end
    end
  until cursor == '0'
  table.sort(members)
  return members
end

-- Starts leases anew, of those that have not ended. FIRST: the place of the first member.
local function lease_anew(lease, members, first)
  for begin = first, #members, CHUNK / 2 do
    local scored = {}
    for place = begin, math.min(begin + CHUNK / 2 - 1, #members) do
      scored[#scored + 1] = now + lease
      scored[#scored + 1] = members[place]
    end
    redis.call('ZADD', LEASES, 'XX', unpack(scored))
  end
end

-- Splits `ID:ATTEMPT:BODY`.
local function split(member)
  local first = string.find(member, ':', 1, true)
  local second = string.find(member, ':', first + 1, true)
  return tonumber(string.sub(member, first + 1, second - 1)), string.sub(member, second + 1)
end

-- What is on the list are plain bodies, which consumers of other languages take too. How often a body was delivered
-- before stands aside, by the body; for equal bodies, a number for each. The field 'n' counts these numbers.
local function aside(body)
  if #body > 128 then
    return 's' .. redis.sha1hex(body)
  end
  return 'b' .. body
end

local function remember(body, attempt)
  if attempt > 0 then
    local known = redis.call('HGET', ATTEMPTS, aside(body))
    redis.call('HSET', ATTEMPTS, aside(body), known and known .. ',' .. attempt or attempt)
    redis.call('HINCRBY', ATTEMPTS, 'n', 1)
    redis.call('PEXPIRE', ATTEMPTS, FORGET)
  end
end

local function recall(body)
  local known = redis.call('HGET', ATTEMPTS, aside(body))
  if not known then
    return 0
  end
  local comma = string.find(known, ',', 1, true)
  if comma then
    redis.call('HSET', ATTEMPTS, aside(body), string.sub(known, comma + 1))
  else
    redis.call('HDEL', ATTEMPTS, aside(body))
  end
  if redis.call('HINCRBY', ATTEMPTS, 'n', -1) <= 0 then
    redis.call('DEL', ATTEMPTS)
  end
  return tonumber(comma and string.sub(known, 1, comma - 1) or known)
end

-- Consumers of other languages take bodies and leave the attempts. More of these than bodies are surely theirs; which
-- ones nobody knows, so that all count anew. COMING: how many bodies are just being put on the list.
local function forget_strangers(coming)
  local noted = tonumber(redis.call('HGET', ATTEMPTS, 'n') or 0)
  if noted > 0 and noted > redis.call('LLEN', READY) + redis.call('LLEN', INBOX) + coming then
    redis.call('DEL', ATTEMPTS)
  end
end

-- Puts members of a sorted set back on the list, behind what is ready.
local function relist(members)
  local bodies = {}
  for place, member in ipairs(members) do
    local attempt, body = split(member)
    remember(body, attempt)
    bodies[place] = body
  end
  forget_strangers(#bodies)
  chunked('RPUSH', READY, bodies)
end

-- Makes ready what is due. A blocked consumer is woken by it as by any message.
local function sweep()
  insist()
  for _, zset in ipairs({LEASES, DELAYED}) do
    local members = redis.call('ZRANGEBYSCORE', zset, '-inf', now, 'LIMIT', 0, CHUNK)
    if #members > 0 then
      relist(members)
      redis.call('ZREM', zset, unpack(members))
    end
  end
end

-- In how many milliseconds something is due, -1 where nothing is.
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
