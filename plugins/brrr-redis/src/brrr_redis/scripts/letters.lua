-- Finds dead letters by their ids: the time of the burial, and the digest of the whole element. The list is ordered by
-- time (see bury.lua), so a binary search finds one without reading those before it.

local PAGE_SIZE = 100

local function time_of(letter)
  local first = string.find(letter, ':', 1, true)
  return tonumber(string.sub(letter, first + 1, string.find(letter, ':', first + 1, true) - 1))
end

-- Returns the body of a dead letter.
local function body_of(letter)
  local first = string.find(letter, ':', 1, true)
  local second = string.find(letter, ':', first + 1, true)
  local third = string.find(letter, ':', second + 1, true)
  return string.sub(letter, third + 1 + tonumber(string.sub(letter, second + 1, third - 1)))
end

-- Returns the index of the first dead letter that is not older than a time.
local function first_since(time)
  local low, high = 0, redis.call('LLEN', DEAD)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if time_of(redis.call('LINDEX', DEAD, middle)) < time then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Calls `visit(index, letter, digest)` for each dead letter of a time, and perhaps for some later ones.
local function visit_since(time, visit)
  local begin = first_since(time)
  repeat
    local letters = redis.call('LRANGE', DEAD, begin, begin + PAGE_SIZE - 1)
    for offset, letter in ipairs(letters) do
      visit(begin + offset - 1, letter, redis.sha1hex(letter))
    end
    begin = begin + PAGE_SIZE
  until #letters < PAGE_SIZE or time_of(letters[PAGE_SIZE]) > time
end

-- Returns the dead letters with ids, which are pairs of ARGV from an index on, and the indexes of each. Equal ones share
-- an id. Dead letters that follow each other are found by one search.
local function chosen(first)
  local known, letters, indexes = {}, {}, {}
  for index = first, #ARGV, 2 do
    local time, digest = tonumber(ARGV[index]), ARGV[index + 1]
    if not known[digest] then
      local seen = {}
      visit_since(time, function(at, letter, id)
        seen[id] = seen[id] or {letter = letter, indexes = {}}
        table.insert(seen[id].indexes, at)
      end)
      for id, found in pairs(seen) do
        known[id] = known[id] or found
      end
    end
    if known[digest] then
      for _, at in ipairs(known[digest].indexes) do
        letters[#letters + 1], indexes[#indexes + 1] = known[digest].letter, at
      end
      known[digest] = {letter = '', indexes = {}} -- taken
    end
  end
  return letters, indexes
end
