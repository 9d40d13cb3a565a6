-- The math library, with the random numbers of the host's seed in place of C's.
--
-- The generator is the linear congruential one of lrand48 (48 bits of state, 31 of output), so that
-- math.randomseed gives the same numbers as on a real server.

local host, part = ...

local error, floor, next, select, tonumber, type = error, math.floor, next, select, tonumber, type

local numbers = {}
for name, f in next, math do
    numbers[name] = f
end

local HALF = 16777216  -- 2^24: the state in two halves, so that doubles can hold the products
local FACTOR_HIGH, FACTOR_LOW, ADDEND = 0x5DE, 0xECE66D, 0xB
local LARGEST = 2147483647

local high, low

local function seed(number)
    number = floor(number) % 4294967296
    high, low = floor(number / 256), number % 256 * 65536 + 0x330E
end

local function draw()
    local product = low * FACTOR_LOW + ADDEND
    local carry = floor(product / HALF)
    high = (high * FACTOR_LOW + low * FACTOR_HIGH + carry) % HALF
    low = product % HALF
    return floor((high * HALF + low) / 131072)
end

seed(host.seed)

local function integer(value, n)
    local number = tonumber(value)
    if not number or type(value) ~= "number" and type(value) ~= "string" then
        error("bad argument #" .. n .. " to 'random' (number expected, got " .. type(value) .. ")", 3)
    end
    number = number < 0 and -floor(-number) or floor(number)
    return (number + 2147483648) % 4294967296 - 2147483648  -- as C's int has it
end

function numbers.random(...)
    local fraction = draw() % LARGEST / LARGEST
    local count = select("#", ...)
    if count == 0 then
        return fraction
    elseif count == 1 then
        local most = integer(..., 1)
        if most < 1 then
            error("bad argument #1 to 'random' (interval is empty)", 2)
        end
        return floor(fraction * most) + 1
    elseif count == 2 then
        local first, second = ...
        local least, most = integer(first, 1), integer(second, 2)
        if least > most then
            error("bad argument #2 to 'random' (interval is empty)", 2)
        end
        return floor(fraction * (most - least + 1)) + least
    end
    error("wrong number of arguments", 2)
end

function numbers.randomseed(...)
    local number = tonumber((...))
    if not number then
        local got = select("#", ...) == 0 and "no value" or type((...))
        error("bad argument #1 to 'randomseed' (number expected, got " .. got .. ")", 2)
    end
    seed(number)
end

part.math = numbers
