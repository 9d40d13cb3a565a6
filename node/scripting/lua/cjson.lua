-- JSON, as lua-cjson 2.1 writes and reads it.
--
-- Arrays are tables with no keys but 1 .. n; too many holes make an error, or an object with
-- encode_sparse_array(true). Numbers have 14 digits. null is cjson.null, a value of its own.

local host, part = ...

local error, floor, getmetatable, next, select, tonumber, tostring, type =
    error, math.floor, getmetatable, next, select, tonumber, tostring, type
local byte, char, find, format, gsub, lower, match, rep, sub = string.byte, string.char, string.find,
    string.format, string.gsub, string.lower, string.match, string.rep, string.sub
local concat = table.concat
local huge = math.huge
local pcall = pcall
local charge = part.charge

local null = part.null
local MOST_DEPTH = 16000  -- of Lua's own calls
local LONG = 10000        -- characters; what is done with shorter texts is not accounted for

local function fail(text, level)
    error(text, (level or 1) + 1)
end

-- --- options ------------------------------------------------------------------------------------

local function new_options()
    return {
        sparse_convert = false, sparse_ratio = 2, sparse_safe = 10,
        encode_depth = 1000, decode_depth = 1000,
        encode_invalid = false, decode_invalid = true,
        precision = 14, keep_buffer = true,
    }
end

-- --- encoding -----------------------------------------------------------------------------------

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\f"] = "\\f",
    ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\127"] = "\\u007f" }
for code = 0, 31 do
    local c = char(code)
    escapes[c] = escapes[c] or format("\\u%04x", code)
end

local function quoted(text)
    if #text > LONG then
        charge(#text)
    end
    if find(text, '[%c"\\/\127%z]') then
        text = gsub(text, '[%c"\\/\127%z]', escapes)
    end
    return '"' .. text .. '"'
end

local function number_text(number, options)
    if number ~= number or number == huge or number == -huge then
        local invalid = options.encode_invalid
        if invalid == "null" then
            return "null"
        elseif not invalid then
            error("Cannot serialise number: must not be NaN or Inf", 0)
        end
        if number ~= number then
            return "nan"
        end
        return number > 0 and "inf" or "-inf"
    end
    return format("%." .. options.precision .. "g", number)
end

-- The length of an array; -1 for an object.
local function array_length(list, options)
    local most, count = 0, 0
    for key in next, list do
        if type(key) == "number" and key > 0 and key == floor(key) then
            if key > most then
                most = key
            end
            count = count + 1
        else
            return -1
        end
    end
    if options.sparse_ratio > 0 and most > count * options.sparse_ratio and most > options.sparse_safe then
        if not options.sparse_convert then
            error("Cannot serialise table: excessively sparse array", 0)
        end
        return -1
    end
    return most
end

local encode_value

local function encode_array(parts, list, length, depth, options)
    parts[#parts + 1] = "["
    for i = 1, length do
        if i > 1 then
            parts[#parts + 1] = ","
        end
        encode_value(parts, list[i], depth, options)
    end
    parts[#parts + 1] = "]"
end

local function encode_object(parts, map, depth, options)
    parts[#parts + 1] = "{"
    local first = true
    for key, value in next, map do
        if not first then
            parts[#parts + 1] = ","
        end
        first = false
        if type(key) == "number" then
            parts[#parts + 1] = '"' .. number_text(key, options) .. '":'
        elseif type(key) == "string" then
            parts[#parts + 1] = quoted(key) .. ":"
        else
            error("Cannot serialise " .. type(key) .. ": table key must be a number or string", 0)
        end
        encode_value(parts, value, depth, options)
    end
    parts[#parts + 1] = "}"
end

function encode_value(parts, value, depth, options)
    local kind = type(value)
    if kind == "string" then
        parts[#parts + 1] = quoted(value)
    elseif kind == "number" then
        parts[#parts + 1] = number_text(value, options)
    elseif kind == "boolean" then
        parts[#parts + 1] = value and "true" or "false"
    elseif value == nil or value == null then
        parts[#parts + 1] = "null"
    elseif kind == "table" then
        depth = depth + 1
        if depth > options.encode_depth or depth > MOST_DEPTH then
            error("Cannot serialise, excessive nesting (" .. depth .. ")", 0)
        end
        local length = array_length(value, options)
        if length > 0 then
            encode_array(parts, value, length, depth, options)
        else
            encode_object(parts, value, depth, options)
        end
    else
        error("Cannot serialise " .. kind .. ": type not supported", 0)
    end
end

-- --- decoding -----------------------------------------------------------------------------------

local unescaped = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function utf8(code)
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xC0 + floor(code / 64), 0x80 + code % 64)
    elseif code < 0x10000 then
        return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64,
        0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

local function found(what, expected, at)
    error("Expected " .. expected .. " but found " .. what .. " at character " .. at, 0)
end

-- The code of a \u escape at `at` (the place of its backslash), and how long it is; nil if wrong.
local function unicode(text, at)
    local digits = match(text, "^\\u(%x%x%x%x)", at)
    if not digits then
        return nil
    end
    local code = tonumber(digits, 16)
    if code < 0xD800 or code > 0xDFFF then
        return code, 6
    elseif code > 0xDBFF then
        return nil
    end
    digits = match(text, "^\\u([dD][c-fC-F]%x%x)", at + 6)
    if not digits then
        return nil
    end
    return 0x10000 + (code - 0xD800) * 1024 + tonumber(digits, 16) - 0xDC00, 12
end

-- The string whose opening quote is at `start`, and the place after its end.
local function decode_string(text, start, expected)
    local at = start + 1
    local stop = find(text, '["\\%z]', at)
    if stop and byte(text, stop) == 34 then
        return sub(text, at, stop - 1), stop + 1
    end
    local parts = {}
    while true do
        stop = find(text, '["\\%z]', at)
        local c = stop and byte(text, stop)
        if not c or c == 0 then
            found("unexpected end of string", expected, stop or #text + 1)
        end
        parts[#parts + 1] = sub(text, at, stop - 1)
        if c == 34 then
            return concat(parts), stop + 1
        end
        local letter = sub(text, stop + 1, stop + 1)
        if letter == "u" then
            local code, length = unicode(text, stop)
            if not code then
                found("invalid unicode escape code", expected, stop)
            end
            parts[#parts + 1] = utf8(code)
            at = stop + length
        else
            local plain = unescaped[letter]
            if not plain then
                found("invalid escape code", expected, stop)
            end
            parts[#parts + 1] = plain
            at = stop + 2
        end
    end
end

local SPECIAL = { inf = huge, infinity = huge, nan = -(0 / 0) }

-- The place after the digits that start at `at`; `other` is what is no digit.
local function skip_digits(text, at, other)
    return find(text, other, at) or #text + 1
end

-- The place after a number without its sign, nil where there is none. By one pattern for the whole,
-- C would try every way to share many digits among its parts.
local function number_end(text, at)
    local other, exponent = "%D", "^[eE]"
    if find(text, "^0[xX]%.?%x", at) then
        at, other, exponent = at + 2, "%X", "^[pP]"
    end
    local stop = skip_digits(text, at, other)
    local whole = stop > at
    if byte(text, stop) == 46 then
        local last = skip_digits(text, stop + 1, other)
        if not whole and last == stop + 1 then
            return nil
        end
        whole, stop = true, last
    end
    if whole and find(text, exponent, stop) then
        local start = find(text, "^[+-]", stop + 1) and stop + 2 or stop + 1
        local last = skip_digits(text, start, "%D")
        stop = last > start and last or stop
    end
    return whole and stop or nil
end

-- What C's strtod makes of the text at `at`: the number and the place after it, or nil.
local function to_number(text, at)
    local sign = match(text, "^[+-]?", at)
    at = at + #sign
    local stop = number_end(text, at)
    local value = stop and tonumber(sub(text, at, stop - 1))
    if not value then
        local word = lower(sub(text, at, at + 7))
        for _, name in next, { "infinity", "inf", "nan" } do
            if sub(word, 1, #name) == name then
                value, stop = SPECIAL[name], at + #name
                local _, last = find(text, name == "nan" and "^%([%w_]*%)" or "^$", stop)
                stop = last and last + 1 or stop
                break
            end
        end
    end
    if value and sign == "-" then
        value = -value
    end
    return value, stop
end

-- Whether what is at `at` is a number to strtod and none to JSON.
local function is_odd(text, at)
    if byte(text, at) == 43 then
        return true
    elseif byte(text, at) == 45 then
        at = at + 1
    end
    return find(text, "^0[xX%d]", at) or find(text, "^[iI][nN][fF]", at) or find(text, "^[nN][aA][nN]", at)
end

-- A number at `at`, and the place after it; or nil, and what is wrong.
local function decode_number(text, at, options)
    if find(text, "^[-%d]", at) then
        if not options.decode_invalid and is_odd(text, at) then
            return nil, "invalid number"
        end
    elseif not options.decode_invalid or not is_odd(text, at) then
        return nil, "invalid token"
    end
    local value, after = to_number(text, at)
    if value then
        return value, after
    end
    return nil, "invalid number"
end

local decode_value

local TOKENS = { [123] = "T_OBJ_BEGIN", [125] = "T_OBJ_END", [91] = "T_ARR_BEGIN", [93] = "T_ARR_END",
    [58] = "T_COLON", [44] = "T_COMMA", [34] = "T_STRING" }

-- The name of what is at `at`, for messages.
local function token_name(text, at, options)
    local c = byte(text, at)
    if not c or c == 0 then
        return "T_END"
    end
    if TOKENS[c] then
        return TOKENS[c]
    end
    if match(text, "^true", at) or match(text, "^false", at) then
        return "T_BOOLEAN"
    elseif match(text, "^null", at) then
        return "T_NULL"
    end
    local number, problem = decode_number(text, at, options)
    return number and "T_NUMBER" or problem
end

local function skip(text, at)
    return find(text, "[^ \t\r\n]", at) or #text + 1
end

local function check_depth(depth, at, options)
    if depth > options.decode_depth or depth > MOST_DEPTH then
        error("Found too many nested data structures (" .. depth .. ") at character " .. at, 0)
    end
end

local function decode_array(text, at, depth, options)
    check_depth(depth, at, options)
    local list, count = {}, 0
    at = skip(text, at + 1)
    if byte(text, at) == 93 then
        return list, at + 1
    end
    while true do
        count = count + 1
        list[count], at = decode_value(text, at, depth, options)
        at = skip(text, at)
        local c = byte(text, at)
        if c == 93 then
            return list, at + 1
        elseif c ~= 44 then
            found(token_name(text, at, options), "comma or array end", at)
        end
        at = skip(text, at + 1)
    end
end

local function decode_object(text, at, depth, options)
    check_depth(depth, at, options)
    local map = {}
    at = skip(text, at + 1)
    if byte(text, at) == 125 then
        return map, at + 1
    end
    while true do
        if byte(text, at) ~= 34 then
            found(token_name(text, at, options), "object key string", at)
        end
        local key
        key, at = decode_string(text, at, "object key string")
        at = skip(text, at)
        if byte(text, at) ~= 58 then
            found(token_name(text, at, options), "colon", at)
        end
        map[key], at = decode_value(text, skip(text, at + 1), depth, options)
        at = skip(text, at)
        local c = byte(text, at)
        if c == 125 then
            return map, at + 1
        elseif c ~= 44 then
            found(token_name(text, at, options), "comma or object end", at)
        end
        at = skip(text, at + 1)
    end
end

function decode_value(text, at, depth, options)
    local c = byte(text, at)
    if c == 34 then
        return decode_string(text, at, "value")
    elseif c == 123 then
        return decode_object(text, at, depth + 1, options)
    elseif c == 91 then
        return decode_array(text, at, depth + 1, options)
    elseif c == 116 and sub(text, at, at + 3) == "true" then
        return true, at + 4
    elseif c == 102 and sub(text, at, at + 4) == "false" then
        return false, at + 5
    elseif c == 110 and sub(text, at, at + 3) == "null" then
        return null, at + 4
    elseif c then
        local number, after = decode_number(text, at, options)
        if number then
            return number, after
        end
    end
    found(token_name(text, at, options), "value", at)
end

-- --- the library --------------------------------------------------------------------------------

local function one_argument(name, ...)
    if select("#", ...) ~= 1 then
        error("bad argument #1 to '" .. name .. "' (expected 1 argument)", 3)
    end
end

local function setting(options, field, name, low, high)
    return function(...)
        if select("#", ...) > 1 then
            error("bad argument #2 to '" .. name .. "' (found too many arguments)", 2)
        end
        local value = ...
        if value ~= nil then
            local number = tonumber(value)
            if not number then
                error("bad argument #1 to '" .. name .. "' (number expected, got " .. type(value) .. ")", 2)
            elseif number < low or number > high then
                error("bad argument #1 to '" .. name .. "' (expected integer between " .. low .. " and " .. high .. ")", 2)
            end
            options[field] = floor(number)
        end
        return options[field]
    end
end

local function choice(options, field, name, allowed)
    return function(...)
        if select("#", ...) > 1 then
            error("bad argument #2 to '" .. name .. "' (found too many arguments)", 2)
        end
        local value = ...
        if value ~= nil then
            if type(value) == "boolean" then
                options[field] = value
            elseif allowed[value] ~= nil then
                options[field] = allowed[value]
            elseif type(value) ~= "string" then
                error("bad argument #1 to '" .. name .. "' (string expected, got " .. type(value) .. ")", 2)
            else
                error("bad argument #1 to '" .. name .. "' (invalid option '" .. value .. "')", 2)
            end
        end
        return options[field]
    end
end

local OFF_ON = { off = false, on = true }

-- With the place where the library was called, as errors of a C library have it.
local function located(f, ...)
    local good, value = pcall(f, ...)
    if good then
        return value
    end
    if type(value) == "table" then
        error(value, 0)
    end
    error(part.without_place(value), 3)
end

local function new()
    local options = new_options()
    local cjson = { null = null, _NAME = "cjson", _VERSION = "2.1.0" }

    local function encode(value)
        local parts = {}
        encode_value(parts, value, 0, options)
        return concat(parts)
    end

    local function decode(text)
        charge(#text)
        local value, at = decode_value(text, skip(text, 1), 0, options)
        at = skip(text, at)
        if at <= #text then
            found(token_name(text, at, options), "the end", at)
        end
        return value
    end

    function cjson.encode(...)
        one_argument("encode", ...)
        return located(encode, (...))
    end

    function cjson.decode(...)
        one_argument("decode", ...)
        local text = ...
        if type(text) == "number" then
            text = text .. ""
        elseif type(text) ~= "string" then
            error("bad argument #1 to 'decode' (string expected, got " .. type(text) .. ")", 2)
        end
        if #text > 1 and (byte(text, 2) == 0 or byte(text, 1) == 0) then
            error("JSON parser does not support UTF-16 or UTF-32", 2)
        end
        return located(decode, text)
    end

    function cjson.encode_sparse_array(...)
        local convert, ratio, safe = ...
        if type(convert) == "boolean" then
            options.sparse_convert = convert
        end
        options.sparse_ratio = tonumber(ratio) or options.sparse_ratio
        options.sparse_safe = tonumber(safe) or options.sparse_safe
        return options.sparse_convert, options.sparse_ratio, options.sparse_safe
    end

    cjson.encode_max_depth = setting(options, "encode_depth", "encode_max_depth", 1, 2147483647)
    cjson.decode_max_depth = setting(options, "decode_depth", "decode_max_depth", 1, 2147483647)
    cjson.encode_number_precision = setting(options, "precision", "encode_number_precision", 1, 14)
    cjson.encode_keep_buffer = choice(options, "keep_buffer", "encode_keep_buffer", OFF_ON)
    cjson.encode_invalid_numbers = choice(options, "encode_invalid", "encode_invalid_numbers",
        { off = false, on = true, null = "null" })
    cjson.decode_invalid_numbers = choice(options, "decode_invalid", "decode_invalid_numbers", OFF_ON)
    cjson.new = new
    return cjson
end

part.cjson = new()
