-- Compare and append: KEYS[1] a stream; ARGV[1] the id it must end with at the least, ARGV[2] its
-- bound in entries, ARGV[3] the entries in ascending order of ids, as msgpack: a list of {tick, id
-- in the outbox, prev, tenant, mode, lead_id, version, type, event_id, envelope}. One argument and
-- not ten per entry: packing them takes a client more time than all the rest.
--
-- Returns {outcome, newest id, entries appended}:
--   lost  the stream ends below ARGV[1], so it was wiped or is an old copy; nothing is written
--   full  it has reached its bound and a group has yet to read it; nothing is written
--   ok    entries above the newest id are appended, those at or below it are there already
-- A stream without groups keeps its newest entries up to the bound.

local function parse(id)
    local tick, event_id = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(tick), tonumber(event_id)
end

local key, bound = KEYS[1], tonumber(ARGV[2])
local newest, length, groups = '0-0', 0, 0
if redis.call('EXISTS', key) == 1 then
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then newest = info[i + 1] end
        if info[i] == 'length' then length = info[i + 1] end
        if info[i] == 'groups' then groups = info[i + 1] end
    end
end
local tick, event_id = parse(newest)
local expected_tick, expected_event_id = parse(ARGV[1])
if tick < expected_tick or (tick == expected_tick and event_id < expected_event_id) then
    return {'lost', newest, 0}
end
if groups > 0 and length >= bound then return {'full', newest, 0} end

local appended = 0
for _, e in ipairs(cmsgpack.unpack(ARGV[3])) do
    if e[1] > tick or (e[1] == tick and e[2] > event_id) then
        newest = redis.call('XADD', key, string.format('%.0f-%.0f', e[1], e[2]),
            'prev', e[3], 'tenant', e[4], 'mode', e[5], 'lead_id', e[6], 'version', e[7],
            'type', e[8], 'event_id', e[9], 'envelope', e[10])
        appended = appended + 1
    end
end

local excess = length + appended - bound
if groups == 0 and excess > 0 then
    local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', excess + 1)
    redis.call('XTRIM', key, 'MINID', oldest[#oldest][1])
end
return {'ok', newest, appended}
