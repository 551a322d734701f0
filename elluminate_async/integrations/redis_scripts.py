"""The scripts of `RedisShare`, in Lua: what `ShareTable` does, by the clock of Redis.

Each is one command, so that it is done at once or not at all. The state of a share is one hash:
its fields that begin with ``at:`` are moments, in seconds. Numbers come and go as texts, as Redis
cuts those of Lua to whole ones.
"""

from __future__ import annotations

from typing import Final

from elluminate_async.batch.share import LONGEST_GUARD
from elluminate_async.batch.share_table import CUT_INTERVAL, MEASURE_SECONDS

KEPT_SECONDS: Final = 24 * 3600
"""How long a share is kept that nobody uses."""

_LONGEST = 10 * 365 * 24 * 3600  # seconds; Redis refuses what its own clock cannot count

_BEGIN = f"""
local key = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local state, changed, run, known_run = {{}}, {{}}, nil, nil
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do
  if flat[i] == 'run' then known_run = flat[i + 1] else state[flat[i]] = tonumber(flat[i + 1]) end
end

local function put(field, value)
  state[field] = value
  changed[field] = true
end

-- It is the time of day: where it was set back, what was noted by it moves along, as otherwise
-- everybody would wait for it to come again.
local back = (state.now or now) - now
if back > 0 then
  for field, at in pairs(state) do
    if field:sub(1, 3) == 'at:' then put(field, at - back) end
  end
end

local function keep()
  put('now', now)
  local words, last = {{}}, now
  for field in pairs(changed) do
    words[#words + 1] = field
    words[#words + 1] = string.format('%.17g', state[field])
  end
  if run then
    words[#words + 1] = 'run'
    words[#words + 1] = run
  end
  redis.call('HSET', key, unpack(words))
  for field, at in pairs(state) do
    if field:sub(1, 3) == 'at:' then last = math.max(last, at) end
  end
  redis.call('EXPIRE', key, math.min(math.ceil(last - now) + {KEPT_SECONDS}, {_LONGEST}))
end

local function answer(numbers)
  for i, number in ipairs(numbers) do numbers[i] = string.format('%.17g', number) end
  return numbers
end

local hold = math.max(0, (state['at:held'] or 0) - now)

local function guard()
  for field, at in pairs(state) do
    if field:sub(1, 7) == 'at:end:' then put(field, math.max(at, now + {LONGEST_GUARD})) end
  end
end
"""

_PACE = f"""
local counted = state['at:counted']

local function measured()
  local elapsed = counted and now - counted or {2 * MEASURE_SECONDS}
  if elapsed >= {2 * MEASURE_SECONDS} then return 0 end
  if elapsed >= {MEASURE_SECONDS} then
    return state.current * (2 - elapsed / {MEASURE_SECONDS}) / {MEASURE_SECONDS}
  end
  if state.previous < 0 then return state.current / math.max(elapsed, 1) end
  return (state.previous * (1 - elapsed / {MEASURE_SECONDS}) + state.current) / {MEASURE_SECONDS}
end

local function pace()
  local refused = state['at:refused']
  local since = refused and math.max(0, now - refused) or 0
  return measured(), state.refused_rate or 0, since, hold
end
"""

RESERVE: Final = (
    _BEGIN
    + """
if hold > 0 then return answer({0, 0, hold, now}) end
local soonest, latest = now + ARGV[1], tonumber(ARGV[2])
local start, is_new = soonest, false
-- Started anew, or another one: what it has loaded may be older than what was given away. A user
-- that may not ask goes without.
local info = redis.pcall('INFO', 'server')
run = type(info) == 'string' and info:match('run_id:(%w+)') or nil
if run and run ~= known_run then
  guard()
  is_new = true
end
for i = 3, #ARGV, 5 do
  local field = 'at:end:' .. ARGV[i]
  if not state[field] then
    put(field, now + ARGV[i + 3])
    is_new = true
  end
  start = math.max(start, state[field])
end
local is_taken = start - now <= latest
for i = 3, #ARGV, 5 do
  local could = math.max(soonest, state['at:end:' .. ARGV[i]])
  if start - could > tonumber(ARGV[i + 4]) then is_taken = false end
end
if is_taken then
  for i = 3, #ARGV, 5 do put('at:end:' .. ARGV[i], start + ARGV[i + 1] * ARGV[i + 2]) end
end
if is_taken or is_new then keep() end
return answer({is_taken and 1 or 0, start - now, 0, now})
"""
)
"""Earliest, latest, and of each limit the fields of `Slots`: those of `Taken`, and the clock."""

GUARD: Final = _BEGIN + "guard()\nkeep()\nreturn answer({})\n"
"""Nothing: nothing. No slot of any limit begins before `LONGEST_GUARD` is over."""

HOLD: Final = (
    _BEGIN
    + """
put('at:held', math.max(state['at:held'] or 0, now + ARGV[1]))
keep()
return answer({})
"""
)
"""Seconds: nothing."""

HELD: Final = _BEGIN + "return answer({hold})\n"
"""Nothing: seconds that are left."""

PACE: Final = (
    _BEGIN
    + _PACE
    + f"""
local accepted, refused = tonumber(ARGV[1]), tonumber(ARGV[2])
if accepted > 0 then
  local elapsed = counted and now - counted or {2 * MEASURE_SECONDS}
  if elapsed >= {2 * MEASURE_SECONDS} then
    counted = now
    put('current', 0)
    put('previous', -1)
  elseif elapsed >= {MEASURE_SECONDS} then
    counted = counted + {MEASURE_SECONDS}
    put('previous', state.current)
    put('current', 0)
  end
  put('at:counted', counted)
  put('current', state.current + accepted)
end
local last = state['at:refused']
if refused and not (last and now - last < {CUT_INTERVAL}) then
  put('refused_rate', refused)
  put('at:refused', now)
end
if accepted > 0 or refused then keep() end
return answer({{pace()}})
"""
)
"""Requests accepted, and the rate refused or nothing: the fields of `SharedPace`."""

STATE: Final = (
    _BEGIN
    + _PACE
    + """
local found = answer({pace()})
for field, at in pairs(state) do
  if field:sub(1, 7) == 'at:end:' then
    found[#found + 1] = field:sub(8)
    found[#found + 1] = string.format('%.17g', at - now)
  end
end
return found
"""
)
"""Nothing: the fields of `SharedPace`, then names of limits and seconds given away."""
