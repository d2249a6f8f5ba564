-- Charges the windows of one key, all or none, by the server's clock. GCRA as in gcra.rs, whose comments say why.
--
-- KEYS[1]  a hash: window -> the moment by which it will be paid, in µs since 1970
-- ARGV     the longest debt in µs, then for each window: its name, by how much its moment moves, and how far ahead of
--          now that may then be (-1: as far as it comes), in µs
-- answers  {how long to wait in µs, or 0; then, where it is 0, the debt of each window in µs}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local horizon = tonumber(ARGV[1])
local names, moves, depths = {}, {}, {}
for i = 2, #ARGV, 3 do
  names[#names + 1] = ARGV[i]
  moves[#moves + 1] = tonumber(ARGV[i + 1])
  depths[#depths + 1] = tonumber(ARGV[i + 2])
end

local stored = redis.call('HMGET', KEYS[1], unpack(names))
local wait, longest = 0, 0
local answer, changes = { 0 }, {}
for i, name in ipairs(names) do
  local paid = math.max(tonumber(stored[i] or 0), now)
  local debt = math.min(math.max(paid + moves[i] - now, 0), horizon)
  if depths[i] >= 0 then
    wait = math.max(wait, debt - depths[i])
  end
  longest = math.max(longest, debt)
  answer[i + 1] = debt
  changes[2 * i - 1] = name
  changes[2 * i] = string.format('%.0f', now + debt)
end
if wait > 0 then
  return { wait }
end
redis.call('HSET', KEYS[1], unpack(changes))
-- What owes nothing is as if never seen. A window not named here may owe for longer: never shorten.
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(math.ceil(longest / 1000) + 1, left)))
return answer
