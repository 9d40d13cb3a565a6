-- MessagePack, as lua-cmsgpack 0.4 writes and reads it.
--
-- Tables with the keys 1 .. n are arrays, all others maps; deeper than 16 levels they are nil.
-- Integers take as few bytes as they can; what has no form is nil.

local host, part = ...

local error, floor, next, select, tonumber, type = error, math.floor, next, select, tonumber, type
local byte, char, find, sub = string.byte, string.char, string.find, string.sub
local concat = table.concat
local check_memory = part.check_memory

local DEEPEST = 16
local MOST_RESULTS = 7000

-- --- packing ------------------------------------------------------------------------------------

-- The last `size` bytes of an integer, most significant first.
local function big_endian(number, size)
    local bytes = {}
    for i = size, 1, -1 do
        bytes[i] = char(number % 256)
        number = floor(number / 256)
    end
    return concat(bytes)
end

local function packed_integer(number)
    if number >= 0 then
        if number <= 127 then
            return char(number)
        elseif number <= 255 then
            return "\204" .. char(number)
        elseif number <= 65535 then
            return "\205" .. big_endian(number, 2)
        elseif number <= 4294967295 then
            return "\206" .. big_endian(number, 4)
        end
        return "\207" .. big_endian(number, 8)
    elseif number >= -32 then
        return char(256 + number)
    elseif number >= -128 then
        return "\208" .. char(256 + number)
    elseif number >= -32768 then
        return "\209" .. big_endian(number, 2)
    elseif number >= -2147483648 then
        return "\210" .. big_endian(number, 4)
    end
    return "\211" .. big_endian(number, 8)
end

local function packed_number(number)
    if number == floor(number) and number >= -9223372036854775808 and number < 9223372036854775808 then
        return packed_integer(number)
    end
    return host.float_bytes(number)
end

local function head(size, small, small_max, sixteen)
    if size <= small_max then
        return char(small + size)
    elseif size <= 65535 then
        return char(sixteen) .. big_endian(size, 2)
    end
    return char(sixteen + 1) .. big_endian(size, 4)
end

local function packed_string(text)
    local size = #text
    if size > 31 and size <= 255 then
        return "\217" .. char(size) .. text
    end
    return head(size, 160, 31, 218) .. text
end

-- The length of a table that is an array, or nil.
local function array_length(list)
    local most, count = 0, 0
    for key in next, list do
        if type(key) ~= "number" or key <= 0 or key ~= floor(key) then
            return nil
        end
        if key > most then
            most = key
        end
        count = count + 1
    end
    return most == count and most or nil
end

local function pack_value(parts, value, depth)
    local kind = type(value)
    if kind == "string" then
        parts[#parts + 1] = packed_string(value)
    elseif kind == "number" then
        parts[#parts + 1] = packed_number(value)
    elseif kind == "boolean" then
        parts[#parts + 1] = value and "\195" or "\194"
    elseif kind == "table" and depth < DEEPEST then
        local length = array_length(value)
        if length then
            parts[#parts + 1] = head(length, 144, 15, 220)
            for i = 1, length do
                pack_value(parts, value[i], depth + 1)
            end
        else
            local place, count = #parts + 1, 0
            parts[place] = ""
            for key, item in next, value do
                pack_value(parts, key, depth + 1)
                pack_value(parts, item, depth + 1)
                count = count + 1
            end
            parts[place] = head(count, 128, 15, 222)
        end
    else
        parts[#parts + 1] = "\192"
    end
end

-- --- unpacking ----------------------------------------------------------------------------------

local function missing()
    error("Missing bytes in input.", 0)
end

local function unsigned(text, at, size)
    if at + size - 1 > #text then
        missing()
    end
    local number = 0
    for i = at, at + size - 1 do
        number = number * 256 + byte(text, i)
    end
    return number
end

local function signed(text, at, size)
    local number = unsigned(text, at, size)
    local first = byte(text, at)
    if first >= 128 then
        if size == 8 then  -- beyond what doubles tell apart, so from its parts
            local high, low = unsigned(text, at, 4) - 4294967296, unsigned(text, at + 4, 4)
            return high * 4294967296 + low
        end
        return number - 256 ^ size
    end
    return number
end

local unpack_value

local function take(text, at, size)
    if at + size - 1 > #text then
        missing()
    end
    return sub(text, at, at + size - 1), at + size
end

local function unpack_array(text, at, count)
    local list = {}
    for i = 1, count do
        list[i], at = unpack_value(text, at)
    end
    return list, at
end

local function unpack_map(text, at, count)
    local map = {}
    for _ = 1, count do
        local key, value
        key, at = unpack_value(text, at)
        value, at = unpack_value(text, at)
        if key == nil then
            error("table index is nil", 0)
        elseif key ~= key then
            error("table index is NaN", 0)
        end
        map[key] = value
    end
    return map, at
end

local function unpack_float(text, at, size)
    local piece, after = take(text, at, size)
    check_memory()
    return host.from_float(piece), after
end

local function unpack_integer(read, size)
    return function(text, at)
        return read(text, at, size), at + size
    end
end

-- Something whose length takes `size` bytes.
local function sized(unpack_sized, size)
    return function(text, at)
        return unpack_sized(text, at + size, unsigned(text, at, size))
    end
end

local readers = {
    [192] = function(text, at) return nil, at end,
    [194] = function(text, at) return false, at end,
    [195] = function(text, at) return true, at end,
    [202] = function(text, at) return unpack_float(text, at, 4) end,
    [203] = function(text, at) return unpack_float(text, at, 8) end,
    [204] = unpack_integer(unsigned, 1), [205] = unpack_integer(unsigned, 2),
    [206] = unpack_integer(unsigned, 4), [207] = unpack_integer(signed, 8),
    [208] = unpack_integer(signed, 1), [209] = unpack_integer(signed, 2),
    [210] = unpack_integer(signed, 4), [211] = unpack_integer(signed, 8),
    [217] = sized(take, 1), [218] = sized(take, 2), [219] = sized(take, 4),
    [220] = sized(unpack_array, 2), [221] = sized(unpack_array, 4),
    [222] = sized(unpack_map, 2), [223] = sized(unpack_map, 4),
}

function unpack_value(text, at)
    local first = byte(text, at)
    if not first then
        missing()
    elseif first <= 127 then
        return first, at + 1
    elseif first <= 143 then
        return unpack_map(text, at + 1, first - 128)
    elseif first <= 159 then
        return unpack_array(text, at + 1, first - 144)
    elseif first <= 191 then
        return take(text, at + 1, first - 160)
    elseif first >= 224 then
        return first - 256, at + 1
    end
    local read = readers[first]
    if not read then
        error("Bad data format in input.", 0)
    end
    return read(text, at + 1)
end

-- --- the library --------------------------------------------------------------------------------

local cmsgpack = {
    _NAME = "cmsgpack",
    _VERSION = "lua-cmsgpack 0.4.0",
    _COPYRIGHT = "Copyright (C) 2012, Redis Ltd.",
    _DESCRIPTION = "MessagePack C implementation for Lua",
}

local pcall = pcall

local function located(good, ...)
    if good then
        return ...
    end
    local problem = ...
    if type(problem) == "table" or find(problem, "^table index") then
        error(problem, 0)
    end
    error(part.without_place(problem), 3)
end

function cmsgpack.pack(...)
    local count = select("#", ...)
    if count == 0 then
        error("bad argument #0 to 'pack' (MessagePack pack needs input.)", 2)
    end
    local parts = {}
    check_memory()
    for i = 1, count do
        pack_value(parts, (select(i, ...)), 0)
    end
    return concat(parts)
end

local function text_of(name, ...)
    local text = ...
    if type(text) == "number" then
        return text .. ""
    elseif type(text) ~= "string" then
        local got = select("#", ...) == 0 and "no value" or type(text)
        error("bad argument #1 to '" .. name .. "' (string expected, got " .. got .. ")", 3)
    end
    return text
end

-- At most `most` values (0: all) from `offset` on; and where to go on, -1 at the end, if `tells`.
local function unpack_many(text, most, offset, tells)
    if offset < 0 or most < 0 then
        error("Invalid request to unpack with offset of " .. offset .. " and limit of " .. #text .. ".", 0)
    elseif offset > #text then
        error("Start offset " .. offset .. " greater than input length " .. #text .. ".", 0)
    end
    local values, count, at = {}, 0, offset + 1
    while at <= #text and (most == 0 or count < most) do
        count = count + 1
        if count > MOST_RESULTS then
            error("too many values to unpack", 0)
        end
        values[count], at = unpack_value(text, at)
    end
    if tells then
        return unpack({ at > #text and -1 or at - 1, unpack(values, 1, count) }, 1, count + 1)
    end
    return unpack(values, 1, count)
end

function cmsgpack.unpack(...)
    return located(pcall(unpack_many, text_of("unpack", ...), 0, 0, false))
end

local function integer(value, default)
    return floor(tonumber(value) or default)
end

function cmsgpack.unpack_one(...)
    local _, offset = ...
    return located(pcall(unpack_many, text_of("unpack_one", ...), 1, integer(offset, 0), true))
end

function cmsgpack.unpack_limit(...)
    local text = text_of("unpack_limit", ...)
    local _, most, offset = ...
    if not tonumber(most) then
        local got = select("#", ...) < 2 and "no value" or type(most)
        error("bad argument #2 to 'unpack_limit' (number expected, got " .. got .. ")", 2)
    end
    most, offset = integer(most, 0), integer(offset, 0)
    return located(pcall(unpack_many, text, most, offset, most ~= 0 or offset ~= 0))
end

part.cmsgpack = cmsgpack
