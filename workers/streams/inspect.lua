-- A snapshot of a stream. KEYS[1]: its key. Returns nil if the key does not exist, else {newest id,
-- length, first id, first entry's prev, {{group, last delivered, oldest pending}, …}, bytes}; '0-0'
-- stands for no id. append.lua explains the bytes.

local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then return false end

local function read_field(pairs_, name, default)
    for i = 1, #pairs_, 2 do
        if pairs_[i] == name then return pairs_[i + 1] end
    end
    return default
end

local info = redis.call('XINFO', 'STREAM', key)
local first_id, first_prev, bytes = '0-0', '0-0', 0
local first = read_field(info, 'first-entry', false)
local last = read_field(info, 'last-entry', false)
if first then
    first_id, first_prev = first[1], read_field(first[2], 'prev', '0-0')
    bytes = tonumber(read_field(last[2], 'total_bytes', '0'))
        - tonumber(read_field(first[2], 'total_bytes', '0'))
        + #read_field(first[2], 'envelope', '')
end

local groups = {}
for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local name = read_field(group, 'name')
    local oldest = redis.call('XPENDING', key, name)[2] or '0-0'
    table.insert(groups, {name, read_field(group, 'last-delivered-id', '0-0'), oldest})
end
local newest, length = read_field(info, 'last-generated-id', '0-0'), read_field(info, 'length', 0)
return {newest, length, first_id, first_prev, groups, math.max(bytes, 0)}
