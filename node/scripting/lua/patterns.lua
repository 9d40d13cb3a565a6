-- Lua's patterns, matched in Lua: slower than the stock matcher, but hooks can end it.
--
-- A pattern becomes a list of items. `match(i, at)` tries item i and what follows at the place
-- `at` of the subject, and gives the place after the match or nil.

local host, part = ...

local error, floor, select, tostring, type, unpack = error, math.floor, select, tostring, type, unpack
local byte, char, find, gmatch, sub = string.byte, string.char, string.find, string.gmatch, string.sub
local concat = table.concat

local MOST_CAPTURES = 32

-- --- characters ---------------------------------------------------------------------------------

local classes = {}  -- by the letter's code: the set of codes

for letter in gmatch("acdlpsuwxz", ".") do
    local has, has_not = {}, {}
    for code = 0, 255 do
        local is = find(char(code), "%" .. letter) ~= nil
        has[code], has_not[code] = is, not is
    end
    classes[byte(letter)], classes[byte(letter:upper())] = has, has_not
end

local anything = setmetatable({}, { __index = function() return true end })

-- The set that a class such as [^a-z%d] at `at` stands for, and the place after it.
local function parse_set(pattern, at)
    local set, negated = {}, false
    at = at + 1
    if byte(pattern, at) == 94 then
        negated, at = true, at + 1
    end
    local first = true
    while first or byte(pattern, at) ~= 93 do
        local c = byte(pattern, at)
        first = false
        if not c then
            error("malformed pattern (missing ']')")
        elseif c == 37 then
            local letter = byte(pattern, at + 1)
            if not letter then
                error("malformed pattern (missing ']')")
            end
            for code = 0, 255 do
                if classes[letter] and classes[letter][code] or code == letter and not classes[letter] then
                    set[code] = true
                end
            end
            at = at + 2
        elseif byte(pattern, at + 1) == 45 and byte(pattern, at + 2) ~= 93 and byte(pattern, at + 2) then
            for code = c, byte(pattern, at + 2) do
                set[code] = true
            end
            at = at + 3
        else
            set[c] = true
            at = at + 1
        end
    end
    if negated then
        local others = {}
        for code = 0, 255 do
            others[code] = not set[code]
        end
        set = others
    end
    return set, at + 1
end

-- --- patterns to items --------------------------------------------------------------------------

local function parse_single(pattern, at)
    local c = byte(pattern, at)
    if c == 46 then
        return anything, at + 1
    elseif c == 91 then
        return parse_set(pattern, at)
    elseif c == 37 then
        local letter = byte(pattern, at + 1)
        if not letter then
            error("malformed pattern (ends with '%')")
        end
        return classes[letter] or { [letter] = true }, at + 2
    end
    return { [c] = true }, at + 1
end

local function parse_escape(pattern, at, items)
    local c = byte(pattern, at + 1)
    if c == 98 then
        if at + 3 > #pattern then
            error("unbalanced pattern")
        end
        items[#items + 1] = { kind = "balance", opens = byte(pattern, at + 2), closes = byte(pattern, at + 3) }
        return at + 4
    elseif c == 102 then
        if byte(pattern, at + 2) ~= 91 then
            error("missing '[' after '%f' in pattern")
        end
        local set, after = parse_set(pattern, at + 2)
        items[#items + 1] = { kind = "frontier", set = set }
        return after
    elseif c and c >= 48 and c <= 57 then
        items[#items + 1] = { kind = "back", number = c - 48 }
        return at + 2
    end
end

local REPEATS = { [42] = "*", [43] = "+", [45] = "-", [63] = "?" }

local function parse(pattern)
    local items, captures = {}, 0
    local anchored = byte(pattern, 1) == 94
    local at = anchored and 2 or 1
    while at <= #pattern do
        local c = byte(pattern, at)
        local after = c == 37 and parse_escape(pattern, at, items)
        if after then
            at = after
        elseif c == 40 then
            captures = captures + 1
            if captures > MOST_CAPTURES then
                error("too many captures")
            end
            local position = byte(pattern, at + 1) == 41
            items[#items + 1] = { kind = position and "position" or "open" }
            at = at + (position and 2 or 1)
        elseif c == 41 then
            items[#items + 1] = { kind = "close" }
            at = at + 1
        elseif c == 36 and at == #pattern then
            items[#items + 1] = { kind = "end" }
            at = at + 1
        else
            local set
            set, at = parse_single(pattern, at)
            local times = REPEATS[byte(pattern, at) or 0]
            items[#items + 1] = { kind = times or "one", set = set }
            at = times and at + 1 or at
        end
    end
    return items, anchored
end

-- --- matching -----------------------------------------------------------------------------------

-- A function (place) that matches there: the place after, or nil; and its captures' starts and
-- lengths. A length of -1: still open; -2: a position.
local function matcher(subject, pattern)
    local items, anchored = parse(pattern)
    local starts, lengths = {}, {}
    local size = #subject
    local match

    local steps = {}

    function steps.open(i, at, item, length)
        local n = #starts + 1
        starts[n], lengths[n] = at, length or -1
        local after = match(i + 1, at)
        if not after then
            starts[n], lengths[n] = nil, nil
        end
        return after
    end

    function steps.position(i, at, item)
        return steps.open(i, at, item, -2)
    end

    function steps.close(i, at)
        local n = #starts
        while n > 0 and lengths[n] ~= -1 do
            n = n - 1
        end
        if n == 0 then
            error("invalid pattern capture")
        end
        lengths[n] = at - starts[n]
        local after = match(i + 1, at)
        if not after then
            lengths[n] = -1
        end
        return after
    end

    steps["end"] = function(i, at)
        return at == size + 1 and at or nil
    end

    function steps.balance(i, at, item)
        if byte(subject, at) ~= item.opens then
            return nil
        end
        local depth = 1
        for place = at + 1, size do
            local c = byte(subject, place)
            if c == item.closes then
                depth = depth - 1
                if depth == 0 then
                    return match(i + 1, place + 1)
                end
            elseif c == item.opens then
                depth = depth + 1
            end
        end
    end

    function steps.frontier(i, at, item)
        local before, here = byte(subject, at - 1) or 0, byte(subject, at) or 0
        if at == 1 then
            before = 0
        end
        if not item.set[before] and item.set[here] then
            return match(i + 1, at)
        end
    end

    function steps.back(i, at, item)
        local n = item.number
        if n == 0 or not starts[n] or lengths[n] == -1 then
            error("invalid capture index")
        end
        local length = lengths[n]
        if length >= 0 and sub(subject, starts[n], starts[n] + length - 1) == sub(subject, at, at + length - 1) then
            return match(i + 1, at + length)
        end
    end

    steps["?"] = function(i, at, item)
        local c = byte(subject, at)
        if c and item.set[c] then
            local after = match(i + 1, at + 1)
            if after then
                return after
            end
        end
        return match(i + 1, at)
    end

    local function most(i, at, set, least)
        local place = at
        local c = byte(subject, place)
        while c and set[c] do
            place = place + 1
            c = byte(subject, place)
        end
        if not items[i + 1] then
            return place >= at + least and place or nil
        end
        for end_ = place, at + least, -1 do
            local after = match(i + 1, end_)
            if after then
                return after
            end
        end
    end

    steps["*"] = function(i, at, item)
        return most(i, at, item.set, 0)
    end

    steps["+"] = function(i, at, item)
        return most(i, at, item.set, 1)
    end

    steps["-"] = function(i, at, item)
        while true do
            local after = match(i + 1, at)
            if after then
                return after
            end
            local c = byte(subject, at)
            if not c or not item.set[c] then
                return nil
            end
            at = at + 1
        end
    end

    function match(i, at)
        while true do
            local item = items[i]
            if not item then
                return at
            end
            if item.kind ~= "one" then
                return steps[item.kind](i, at, item)
            end
            local c = byte(subject, at)
            if not c or not item.set[c] then
                return nil
            end
            i, at = i + 1, at + 1
        end
    end

    local function try(at)
        for n = #starts, 1, -1 do
            starts[n], lengths[n] = nil, nil
        end
        return match(1, at)
    end

    local function capture(n)
        local length = lengths[n]
        if length == -1 then
            error("unfinished capture")
        elseif length == -2 then
            return starts[n]
        end
        return sub(subject, starts[n], starts[n] + length - 1)
    end

    -- The captures, or the whole match where there are none.
    local function captures(from, after, or_whole)
        local found = {}
        for n = 1, #starts do
            found[n] = capture(n)
        end
        if #starts == 0 and or_whole then
            found[1] = sub(subject, from, after - 1)
        end
        return found
    end

    return try, captures, anchored
end

local slow = {}

local function search(subject, pattern, init)
    local try, captures, anchored = matcher(subject, pattern)
    for at = init, anchored and init or #subject + 1 do
        local after = try(at)
        if after then
            return at, after, captures
        end
    end
end

function slow.find(subject, pattern, init)
    local at, after, captures = search(subject, pattern, init)
    if at then
        return at, after - 1, unpack(captures(at, after, false))
    end
    return nil
end

function slow.match(subject, pattern, init)
    local at, after, captures = search(subject, pattern, init)
    if at then
        return unpack(captures(at, after, true))
    end
    return nil
end

function slow.gmatch(subject, pattern)
    if byte(pattern, 1) == 94 then
        pattern = "%" .. pattern  -- no anchor here
    end
    local try, captures = matcher(subject, pattern)
    local place = 1
    return function()
        for at = place, #subject + 1 do
            local after = try(at)
            if after then
                place = after == at and after + 1 or after
                return unpack(captures(at, after, true))
            end
        end
        place = #subject + 2
        return nil
    end
end

local function expanded(with, whole, found)
    local parts, i = {}, 1
    while i <= #with do
        local c = byte(with, i)
        if c == 37 then
            i = i + 1
            local d = byte(with, i)
            if d == 48 then
                parts[#parts + 1] = whole
            elseif d and d >= 49 and d <= 57 then
                local value = found[d - 48]
                if value == nil then
                    error("invalid capture index")
                end
                parts[#parts + 1] = value
            elseif d then
                parts[#parts + 1] = char(d)
            end
        else
            parts[#parts + 1] = char(c)
        end
        i = i + 1
    end
    return concat(parts)
end

local function replacement(with, whole, found)
    local kind = type(with)
    local value
    if kind == "function" then
        value = with(unpack(found))
    elseif kind == "table" then
        value = with[found[1]]
    else
        return expanded(with .. "", whole, found)
    end
    if not value then
        return whole
    elseif type(value) ~= "string" and type(value) ~= "number" then
        error("invalid replacement value (a " .. type(value) .. ")")
    end
    return value
end

function slow.gsub(subject, pattern, with, most)
    local try, captures, anchored = matcher(subject, pattern)
    local parts, count, at = {}, 0, 1
    most = most or #subject + 1
    while count < most do
        local after = try(at)
        if after then
            count = count + 1
            local whole = sub(subject, at, after - 1)
            parts[#parts + 1] = replacement(with, whole, captures(at, after, true))
        end
        if after and after > at then
            at = after
        elseif at <= #subject then
            parts[#parts + 1] = sub(subject, at, at)
            at = at + 1
        else
            break
        end
        if anchored then
            break
        end
    end
    parts[#parts + 1] = sub(subject, at)
    return concat(parts), count
end

part.patterns = slow
