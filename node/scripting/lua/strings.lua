-- The string library, with bounds on what runs inside C where no hook can end it.
--
-- A search that may take long runs in Python (plain text) or in patterns.lua, a matcher written in
-- Lua, which hooks reach and whose depth Lua bounds.

local host, part = ...

local error, floor, next, select, tonumber, type = error, math.floor, next, select, tonumber, type
local find, gmatch, gsub, match, rep = string.find, string.gmatch, string.gsub, string.match, string.rep
local byte, format, lower, reverse, sub, upper = string.byte, string.format, string.lower,
    string.reverse, string.sub, string.upper
local concat, huge = table.concat, math.huge
local slow = part.patterns
local check_memory = part.check_memory
local charge = part.charge
local memory_max = host.memory_max

local STEPS = 3e7        -- of C's matcher; more may take more than a moment
local LONGEST = 1000     -- items of a pattern; C's matcher may recurse once for each
local LARGE = 65536     -- characters; longer results are made by the host, in one piece
local LONG = 10000       -- characters; what is done with shorter texts is not accounted for

local strings = {}
for name, f in next, string do
    strings[name] = f
end

-- At most how often C's matcher may look at a character, for a subject of `size` bytes. A repeated
-- item that ends the pattern is never tried again.
local function steps(size, pattern)
    local repeats, optional = 0, 0
    local i, length = 1, #pattern
    local last = 0
    while i <= length do
        local c = byte(pattern, i)
        if c == 37 then      -- %
            if byte(pattern, i + 1) == 98 then  -- %b
                repeats = repeats + 1
            end
            i = i + 1
        elseif c == 42 or c == 43 or c == 45 then  -- * + -
            repeats, last = repeats + 1, i
        elseif c == 63 then  -- ?
            optional, last = optional + 1, i
        end
        i = i + 1
    end
    if last > 0 and byte(pattern, last) ~= 63 and not find(pattern, "[^)]", last + 1) then
        repeats = repeats - 1
    end
    if byte(pattern, 1) ~= 94 then  -- ^
        repeats = repeats + 1
    end
    return (size + 1) ^ repeats * 2 ^ optional
end

local function is_heavy(subject, pattern)
    local size = #subject
    if size * #pattern < 512 and #pattern < 16 then
        return false
    end
    local number = #pattern > LONGEST and huge or steps(size, pattern)
    if number > STEPS then
        return true
    elseif number > LONG then
        charge(number)
    end
    return false
end

-- Whether these are a subject and a pattern, and not something the stock function complains about.
local function are_texts(subject, pattern)
    local a, b = type(subject), type(pattern)
    return (a == "string" or a == "number") and (b == "string" or b == "number")
end

local function start(init, size)
    init = tonumber(init) or 1
    if init < 0 then
        init = init + size + 1
    end
    if init < 1 then
        return 1
    end
    return init > size + 1 and size + 1 or floor(init)
end

local function found_plain(subject, pattern, init)
    check_memory()
    local at = host.find(subject, pattern, start(init, #subject) - 1)
    if at < 0 then
        return nil
    end
    return at + 1, at + #pattern
end

function strings.find(...)
    local subject, pattern, init, plain = ...
    if are_texts(subject, pattern) then
        subject, pattern = subject .. "", pattern .. ""
        if plain or not find(pattern, "[%^%$%*%+%?%.%(%[%%%-]") then
            if #subject * #pattern > STEPS then
                return found_plain(subject, pattern, init)
            end
        elseif is_heavy(subject, pattern) then
            return slow.find(subject, pattern, start(init, #subject))
        end
    end
    return find(...)
end

function strings.match(...)
    local subject, pattern, init = ...
    if are_texts(subject, pattern) and is_heavy(subject .. "", pattern .. "") then
        return slow.match(subject .. "", pattern .. "", start(init, #(subject .. "")))
    end
    return match(...)
end

function strings.gmatch(...)
    local subject, pattern = ...
    if are_texts(subject, pattern) and is_heavy(subject .. "", pattern .. "") then
        return slow.gmatch(subject .. "", pattern .. "")
    end
    return gmatch(...)
end

function strings.gsub(...)
    local subject, pattern, with, most = ...
    if are_texts(subject, pattern) and is_heavy(subject .. "", pattern .. "") then
        local kind = type(with)
        if kind == "number" or kind == "string" or kind == "table" or kind == "function" then
            return slow.gsub(subject .. "", pattern .. "", with, tonumber(most))
        end
    end
    return gsub(...)
end

function strings.rep(...)
    local text, times = ...
    local number = tonumber(times)
    if number and (type(text) == "string" or type(text) == "number") then
        text = text .. ""
        if #text == 0 then
            return ""
        end
        if #text * number > memory_max then
            error("not enough memory", 0)
        elseif #text * number > LONG then
            charge(#text * number)
        end
        if #text * number > LARGE then
            check_memory()
            local result = host.repeated(text, floor(number))
            return result or error("not enough memory", 0)
        end
    end
    return rep(...)
end

-- What takes time in proportion to its text.
local function account(text)
    if type(text) == "string" and #text > LONG then
        charge(#text)
    end
end

function part.base.tonumber(...)
    account((...))
    return tonumber(...)
end

function strings.lower(...)
    account((...))
    return lower(...)
end

function strings.reverse(...)
    account((...))
    return reverse(...)
end

function strings.sub(...)
    account((...))
    return sub(...)
end

function strings.upper(...)
    account((...))
    return upper(...)
end

function strings.format(...)
    local text = format(...)
    account(text)
    return text
end

function part.table.concat(...)
    local text = concat(...)
    account(text)
    return text
end

-- The same for what moves or compares the elements of a table, each of them `cost` times.
local insert, maxn, remove, sort = part.table.insert, part.table.maxn, part.table.remove, part.table.sort

local function weigh(list, cost)
    local count = type(list) == "table" and #list or 0
    if count > LONG / 10 then
        charge(count * cost)
    end
end

function part.table.insert(...)
    weigh((...), 1)
    return insert(...)
end

function part.table.maxn(...)
    weigh((...), 1)
    return maxn(...)
end

function part.table.remove(...)
    weigh((...), 1)
    return remove(...)
end

function part.table.sort(...)
    weigh((...), 20)
    return sort(...)
end

strings.gfind = strings.gmatch
-- What ("x"):rep() finds is what string.rep is.
local methods = getmetatable("")
methods.__index = strings

part.string = strings
