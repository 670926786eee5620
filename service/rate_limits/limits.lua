-- One process reports its use of one API key and requests grants.
-- KEYS: for each limit a hash from process to its grant and the time until which it is valid.
-- ARGV: process, AHEAD_PART; then for each limit: the limit, used, wanted, most to grant ahead, the
-- previous grant of this process, the sum of the other grants at that time, seconds after which the
-- grant is void.
-- All numbers are absolute, not changes: a call that is lost or repeated does no harm.
-- Returns for each limit the grant of this process and the sum of the others.
local process, part = ARGV[1], tonumber(ARGV[2])
local now = tonumber(redis.call('TIME')[1])
local response = {}
for n, key in ipairs(KEYS) do
    local numbers = {}
    for i = 1, 7 do
        numbers[i] = tonumber(ARGV[7 * n - 5 + i])
    end
    local limit, used, wanted, ahead, granted_before, others_before, keep = unpack(numbers)
    local granted, sum = {lost = 0}, 0
    local found = redis.call('HGETALL', key)
    for i = 1, #found, 2 do
        local count, valid_until = string.match(found[i + 1], '^(%d+) (%d+)$')
        if tonumber(valid_until) < now then
            redis.call('HDEL', key, found[i])
        else
            granted[found[i]] = tonumber(count)
            sum = sum + tonumber(count)
        end
    end
    local others = sum - (granted[process] or 0)
    if not granted[process] and granted_before + others_before > 0 then
        -- Redis has lost its data. The former grants of the others count until they report again.
        local lost = math.max(granted.lost - granted_before, others_before - (others - granted.lost), 0)
        others = others - granted.lost + lost
        redis.call('HSET', key, 'lost', lost .. ' ' .. (now + keep))
    end
    local left = limit - others
    ahead = math.min(ahead, math.floor(math.max(left - wanted, 0) / part))
    local grant = math.max(used, math.min(wanted + ahead, left))
    redis.call('HSET', key, process, grant .. ' ' .. (now + keep))
    redis.call('EXPIRE', key, keep)
    response[#response + 1] = grant
    response[#response + 1] = others
end
return response
