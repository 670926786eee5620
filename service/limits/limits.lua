-- What one process asks for one API key: places for requests at work, and requests in windows.
-- KEYS[1] a hash of the processes that hold places; KEYS[2..] a counter for each window.
-- ARGV: process, limit of places (0: none), places in use, places wanted, seconds after which a
-- process that says nothing more has lost its places, which part of the rest is granted ahead; then
-- for each window: limit, least and most wanted (both below 0: given back), used without asking,
-- used as last heard (in case this counter was lost), when it ends in Unix seconds. Places are said
-- as a whole and not as a change, so that a repeated or lost call does no harm.
-- Returns the places held, then for each window what was granted and what is used now.

local process, places, in_use, wanted, keep, part = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]),
    tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local held = 0
if places > 0 then
    local now, others = tonumber(redis.call('TIME')[1]), 0
    local found = redis.call('HGETALL', KEYS[1])
    for i = 1, #found, 2 do
        local count, kept_until = string.match(found[i + 1], '^(%d+) (%d+)$')
        if tonumber(kept_until) < now then
            redis.call('HDEL', KEYS[1], found[i])
        elseif found[i] ~= process then
            others = others + tonumber(count)
        end
    end
    held = math.max(in_use, math.min(wanted, places - others))
    if held > 0 then
        redis.call('HSET', KEYS[1], process, held .. ' ' .. (now + keep))
        redis.call('EXPIRE', KEYS[1], keep + 1)
    else
        redis.call('HDEL', KEYS[1], process)
    end
end

local reply = {held}
for n = 2, #KEYS do
    local at = 6 * (n - 1)
    local limit, least, most = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local used = tonumber(redis.call('GET', KEYS[n]) or ARGV[at + 5]) + tonumber(ARGV[at + 4])
    local granted = least
    if least > 0 then
        local left = math.max(limit - used, 0)
        granted = math.min(left, math.max(least, math.min(most, math.floor(left / part))))
    end
    used = math.max(used + granted, 0)
    redis.call('SET', KEYS[n], used, 'EXAT', ARGV[at + 6])
    reply[#reply + 1] = granted
    reply[#reply + 1] = used
end
return reply
