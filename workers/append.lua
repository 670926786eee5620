-- Compare and append: KEYS[1] a stream; ARGV[1] the id it must end with at the least, ARGV[2] its
-- bound in entries, then nine values per entry in ascending order of ids: id, prev, tenant, mode,
-- lead_id, version, type, event_id, envelope.
--
-- Returns {outcome, newest id, entries appended}:
--   lost  the stream ends below ARGV[1], so it was wiped or is an old copy; nothing is written
--   full  it has reached its bound and a group has yet to read it; nothing is written
--   ok    entries above the newest id are appended, those at or below it are there already
-- A stream without groups keeps its newest entries up to the bound.

local function is_below(one, other)
    local a, b = string.match(one, '^(%d+)-(%d+)$')
    local c, d = string.match(other, '^(%d+)-(%d+)$')
    a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
    return a < c or (a == c and b < d)
end

local key, expected, bound = KEYS[1], ARGV[1], tonumber(ARGV[2])
local newest, length, groups = '0-0', 0, 0
if redis.call('EXISTS', key) == 1 then
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then newest = info[i + 1] end
        if info[i] == 'length' then length = info[i + 1] end
        if info[i] == 'groups' then groups = info[i + 1] end
    end
end
if is_below(newest, expected) then return {'lost', newest, 0} end
if groups > 0 and length >= bound then return {'full', newest, 0} end

local appended = 0
for i = 3, #ARGV, 9 do
    if is_below(newest, ARGV[i]) then
        newest = redis.call('XADD', key, ARGV[i],
            'prev', ARGV[i + 1], 'tenant', ARGV[i + 2], 'mode', ARGV[i + 3],
            'lead_id', ARGV[i + 4], 'version', ARGV[i + 5], 'type', ARGV[i + 6],
            'event_id', ARGV[i + 7], 'envelope', ARGV[i + 8])
        appended = appended + 1
    end
end

local excess = length + appended - bound
if groups == 0 and excess > 0 then
    local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', excess + 1)
    redis.call('XTRIM', key, 'MINID', oldest[#oldest][1])
end
return {'ok', newest, appended}
