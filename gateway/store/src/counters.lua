-- The arithmetic of limit/src/counter.rs, for counters that pods share: looks at all of them, and takes from all or
-- from none. `now` is in microseconds, by the clock of the server: the line before this one reads it. KEYS: the pods
-- that asked lately, then each counter. ARGV: the pod, then twelve words about each counter.
local function text(number) return string.format('%.0f', number) end
local pod, states, all, given = ARGV[1], {}, true, 12
redis.call('ZADD', KEYS[1], text(now), pod)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - 10000000))
redis.call('PEXPIRE', KEYS[1], 20000)
local pods = redis.call('ZCARD', KEYS[1])
local function look(s)
  if s.kind == 'r' then
    s.available = math.max(math.floor((s.c * s.interval - s.debt) / s.interval + 1e-6), 0)
    s.reset = math.ceil(s.debt)
  elseif s.kind == 'q' then
    s.available = math.max(s.a - s.used, 0)
    s.reset = s.stop - now
  else
    s.available = math.max(s.a - s.others - s.mine, 0)
    s.reset = 0
  end
end
for i = 2, #KEYS do
  local at, key = 1 + (i - 2) * given, KEYS[i]
  local s = {kind = ARGV[at + 1], key = key, stop = 0}
  for j, name in ipairs({'need', 'want', 'back', 'of', 'a', 'b', 'c'}) do s[name] = tonumber(ARGV[at + 1 + j]) end
  if s.kind == 'r' then
    s.interval = s.b / s.a
    local kept = redis.call('HMGET', key, 'a', 'd')
    local debt = tonumber(kept[2] or 0)
    debt = math.max(debt - math.max(now - tonumber(kept[1] or now), 0), 0)
    s.debt = math.max(debt - s.back * s.interval, 0)
    s.share = math.min(s.a / 100, s.c / 2)
  elseif s.kind == 'q' then
    local kept = redis.call('HMGET', key, 'e', 'u')
    s.stop, s.used = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
    if now >= s.stop then
      local found
      for j = 4, 2, -1 do
        local stop = tonumber(ARGV[at + 8 + j])
        if stop > now then found = stop end
      end
      if not found or now < tonumber(ARGV[at + 9]) then return {now, pods, 0} end
      s.stop, s.used = found, 0
    end
    if s.stop == s.of then s.used = math.max(s.used - s.back, 0) end
    s.share = math.min(s.a / 150, math.max(s.a - s.used, 0) / 4)
  else
    s.others, s.mine, s.dead = 0, math.max(s.back, 0), {}
    local kept = redis.call('HGETALL', key)
    for j = 1, #kept, 2 do
      local held, ends = string.match(kept[j + 1], '^(%d+):(%d+)$')
      if tonumber(ends) <= now then
        s.dead[#s.dead + 1] = kept[j]
      elseif kept[j] ~= pod then
        s.others = s.others + tonumber(held)
      end
    end
    s.share = s.a / 150
  end
  look(s)
  s.sufficed, s.wait, s.granted = s.available >= s.need, 0, 0
  if not s.sufficed then
    all = false
    s.wait = 1000000
    if s.kind == 'r' then s.wait = math.max(math.ceil(s.debt + s.need * s.interval - s.c * s.interval), 1) end
    if s.kind == 'q' then s.wait = math.max(s.stop - now, 1) end
  end
  s.ahead = math.floor(s.share / pods)
  states[#states + 1] = s
end
local answer = {now, pods, 1}
for _, s in ipairs(states) do
  if all then
    s.granted = math.min(s.want, s.available, math.max(s.need, s.ahead))
    if s.kind == 'r' then s.debt = s.debt + s.granted * s.interval end
    if s.kind == 'q' then s.used = s.used + s.granted end
    if s.kind == 's' then s.mine = s.mine + s.granted end
    look(s)
  end
  local lives = 20000
  if s.kind == 'r' then
    redis.call('HSET', s.key, 'a', text(now), 'd', string.format('%.17g', s.debt))
    lives = math.ceil(s.debt / 1000) + 1000
  elseif s.kind == 'q' then
    redis.call('HSET', s.key, 'e', text(s.stop), 'u', text(s.used))
    lives = math.ceil((s.stop - now) / 1000) + 60000
  else
    for _, name in ipairs(s.dead) do redis.call('HDEL', s.key, name) end
    redis.call('HSET', s.key, pod, text(s.mine) .. ':' .. text(now + 10000000))
  end
  redis.call('PEXPIRE', s.key, text(lives))
  for _, value in ipairs({s.granted, s.sufficed and 1 or 0, s.available, s.reset, s.stop, s.wait, s.ahead}) do
    answer[#answer + 1] = value
  end
end
return answer
