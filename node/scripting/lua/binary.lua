-- The libraries bit and struct: the arguments are looked at here, the work is done in Python.

local host, part = ...

local error, select, tonumber, type = error, select, tonumber, type
local check_memory = part.check_memory

local function bad(n, name, expected, got, level)
    error("bad argument #" .. n .. " to '" .. name .. "' (" .. expected .. " expected, got " .. got .. ")", level)
end

-- The arguments as numbers; strings that are numbers count.
local function numbers(name, least, ...)
    local count = select("#", ...)
    local found = {}
    for n = 1, count > least and count or least do
        local value = select(n, ...)
        local number = (type(value) == "number" or type(value) == "string") and tonumber(value)
        if not number then
            bad(n, name, "number", n > count and "no value" or type(value), 4)
        end
        found[n] = number
    end
    return found
end

-- --- bit ----------------------------------------------------------------------------------------

local bit = {}

local function variadic(name)
    local apply = host["bit_" .. name]
    bit[name] = function(...)
        local found = numbers(name, 1, ...)
        local value = host.bit_tobit(found[1])
        for n = 2, #found do
            value = apply(value, found[n])
        end
        return value
    end
end

local function unary(name)
    local apply = host["bit_" .. name]
    bit[name] = function(...)
        return apply(numbers(name, 1, (...))[1])
    end
end

local function binary(name)
    local apply = host["bit_" .. name]
    bit[name] = function(...)
        local found = numbers(name, 2, ...)
        return apply(found[1], found[2])
    end
end

for _, name in ipairs({ "band", "bor", "bxor" }) do
    variadic(name)
end
for _, name in ipairs({ "tobit", "bnot", "bswap" }) do
    unary(name)
end
for _, name in ipairs({ "lshift", "rshift", "arshift", "rol", "ror" }) do
    binary(name)
end

function bit.tohex(...)
    local found = numbers("tohex", 1, ...)
    check_memory()
    return host.bit_tohex(found[1], found[2] or 8)
end

part.bit = bit

-- --- struct -------------------------------------------------------------------------------------

local struct = {}

-- The host answers false and what is wrong.
local function checked(value, ...)
    if value == false then
        error((...), 3)
    end
    return value, ...
end

local function text(name, n, count, value)
    if type(value) == "number" then
        return value .. ""
    elseif type(value) ~= "string" then
        bad(n, name, "string", n > count and "no value" or type(value), 3)
    end
    return value
end

-- Values that are neither numbers nor strings must not reach the host.
local function plain(value)
    local kind = type(value)
    if kind == "number" or kind == "string" then
        return value
    end
    return nil
end

local function all_plain(count, ...)
    if count == 0 then
        return
    end
    return plain((...)), all_plain(count - 1, select(2, ...))
end

function struct.pack(...)
    local count = select("#", ...)
    local form = text("pack", 1, count, (...))
    if count > 200 then
        error("too many values to pack", 2)
    end
    check_memory()
    local packed, problem, n, kind = host.struct_pack(form, all_plain(count - 1, select(2, ...)))
    if packed then
        return packed
    elseif problem ~= "value" then
        error(problem, 2)
    end
    bad(n, "pack", kind, type((select(n, ...))), 3)
end

function struct.unpack(...)
    local count = select("#", ...)
    local form, data = text("unpack", 1, count, (...)), text("unpack", 2, count, (select(2, ...)))
    local start = select(3, ...)
    if start ~= nil and not tonumber(start) then
        bad(3, "unpack", "number", type(start), 2)
    end
    check_memory()
    return checked(host.struct_unpack(form, data, tonumber(start) or 1))
end

function struct.size(...)
    local form = text("size", 1, select("#", ...), (...))
    check_memory()
    return checked(host.struct_size(form))
end

part.struct = struct
