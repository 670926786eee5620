-- What there is of a stream, in one moment: KEYS[1] its key. Returns nil if there is no such key, or
-- {newest id, length, first id, first entry's prev, {{group, last delivered, oldest pending}, …}};
-- '0-0' stands for none.

local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then return false end

local function read_field(pairs_, name)
    for i = 1, #pairs_, 2 do
        if pairs_[i] == name then return pairs_[i + 1] end
    end
    return '0-0'
end

local info = redis.call('XINFO', 'STREAM', key)
local first_id, first_prev = '0-0', '0-0'
local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
if first then
    first_id, first_prev = first[1], read_field(first[2], 'prev')
end

local groups = {}
for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local name = read_field(group, 'name')
    local oldest = redis.call('XPENDING', key, name)[2] or '0-0'
    table.insert(groups, {name, read_field(group, 'last-delivered-id'), oldest})
end
local newest, length = read_field(info, 'last-generated-id'), read_field(info, 'length')
return {newest, length, first_id, first_prev, groups}
