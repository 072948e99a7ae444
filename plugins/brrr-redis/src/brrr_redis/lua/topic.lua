-- What all scripts of a topic begin with. Times are milliseconds by the server's clock, which all consumers share.

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

-- `ID:ATTEMPT:BODY`. Sorted sets order what has one score by its bytes, so that the places of a batch have one length.
local function join(token, place, attempt, body)
  return string.format('%s.%06d:%d:', token, place, attempt) .. body
end

-- The members of a claim, in the order in which they were claimed.
local function claimed_by(token)
  local members = {}
  for _, member in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
    if string.sub(member, 1, #token + 1) == token .. '.' then
      members[#members + 1] = member
    end
  end
  return members
end

-- Splits `ID:ATTEMPT:BODY`.
local function split(member)
  local first = string.find(member, ':', 1, true)
  local second = string.find(member, ':', first + 1, true)
  return tonumber(string.sub(member, first + 1, second - 1)), string.sub(member, second + 1)
end

-- What is on the list are plain bodies, which consumers of other languages take too. How often a body was delivered
-- before stands aside, by the body; for equal bodies, a number for each.
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
    return tonumber(string.sub(known, 1, comma - 1))
  end
  redis.call('HDEL', ATTEMPTS, aside(body))
  return tonumber(known)
end

-- Puts members of a sorted set back on the list, behind what is ready.
local function relist(members)
  local bodies = {}
  for place, member in ipairs(members) do
    local attempt, body = split(member)
    remember(body, attempt)
    bodies[place] = body
  end
  chunked('RPUSH', READY, bodies)
end

-- Makes ready what is due. A blocked consumer is woken by it as by any message.
local function sweep()
  for _, zset in ipairs({LEASES, DELAYED}) do
    local members = redis.call('ZRANGEBYSCORE', zset, '-inf', now, 'LIMIT', 0, CHUNK)
    if #members > 0 then
      redis.call('ZREM', zset, unpack(members))
      relist(members)
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
