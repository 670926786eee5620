-- Compare and append. KEYS[1]: a stream. ARGV[1]: the lowest id that it may end with; ARGV[2]: its
-- bound in entries; ARGV[3]: its bound in bytes; ARGV[4]: the entries in ascending order of ids, as
-- msgpack: a list of {tick, id in the outbox, prev, tenant, mode, lead_id, version, type, event_id,
-- envelope, after (only of a thin entry)}. Ten arguments per entry would cost the client more time
-- than all the rest.
--
-- Returns {outcome, newest id, entries appended}:
--   lost  the stream ends below ARGV[1]: it was wiped or is an old copy; nothing is written
--   full  the stream has reached a bound and has groups; nothing is written
--   ok    entries above the newest id are appended; the others are in the stream already
-- A stream without groups keeps its newest entries up to the bounds.
--
-- The field `total_bytes` of an entry counts the bytes appended up to and including it. The first
-- and the last entry so give the size of the stream, also if another program has trimmed it.

local OVERHEAD = 60  -- roughly what Redis adds to the values of an entry
local CHUNK = 100

local function parse(id)
    local tick, event_id = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(tick), tonumber(event_id)
end

local function read_total(entry)
    if not entry then return 0 end
    for i = 1, #entry[2], 2 do
        if entry[2][i] == 'total_bytes' then return tonumber(entry[2][i + 1]) or 0 end
    end
    return 0
end

local key, bound, byte_bound = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local newest, length, groups, first, last = '0-0', 0, 0, false, false
if redis.call('EXISTS', key) == 1 then
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then newest = info[i + 1] end
        if info[i] == 'length' then length = info[i + 1] end
        if info[i] == 'groups' then groups = info[i + 1] end
        if info[i] == 'first-entry' then first = info[i + 1] end
        if info[i] == 'last-entry' then last = info[i + 1] end
    end
end
local tick, event_id = parse(newest)
local expected_tick, expected_event_id = parse(ARGV[1])
if tick < expected_tick or (tick == expected_tick and event_id < expected_event_id) then
    return {'lost', newest, 0}
end
local total = read_total(last)
if groups > 0 and (length >= bound or total - read_total(first) >= byte_bound) then
    return {'full', newest, 0}
end

local appended = 0
for _, e in ipairs(cmsgpack.unpack(ARGV[4])) do
    if e[1] > tick or (e[1] == tick and e[2] > event_id) then
        total = total + OVERHEAD
        for i = 3, #e do total = total + #e[i] end
        local fields = {'prev', e[3], 'tenant', e[4], 'mode', e[5], 'lead_id', e[6],
            'version', e[7], 'type', e[8], 'event_id', e[9], 'envelope', e[10],
            'total_bytes', string.format('%.0f', total)}
        if e[11] then
            fields[19], fields[20] = 'after', e[11]
        end
        newest = redis.call('XADD', key, string.format('%.0f-%.0f', e[1], e[2]), unpack(fields))
        appended = appended + 1
    end
end
if groups > 0 then return {'ok', newest, appended} end

local excess = length + appended - bound
if excess > 0 then
    local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', excess + 1)
    redis.call('XTRIM', key, 'MINID', oldest[#oldest][1])
end
local start, kept = '-', total - read_total(first) < byte_bound
while not kept do  -- up to the first entry after which no more than the bound was appended
    local oldest = redis.call('XRANGE', key, start, '+', 'COUNT', CHUNK)
    if #oldest == 0 then break end
    for _, entry in ipairs(oldest) do
        if read_total(entry) > total - byte_bound or entry[1] == newest then
            kept = entry[1]
            break
        end
    end
    start = '(' .. oldest[#oldest][1]
end
if start ~= '-' then redis.call('XTRIM', key, 'MINID', kept) end
return {'ok', newest, appended}
