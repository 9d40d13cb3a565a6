-- Tables that scripts may read and not change.
--
-- Lua 5.1 has no such thing: a protected table is shown as an empty one whose metatable leads to
-- the real one. Whatever looks at a table or writes to it without its metatable must therefore
-- know of them: next, rawget, rawset, table.insert ...

local host, part = ...

local error, next, rawget, rawset, select, type = error, next, rawget, rawset, select, type
local getmetatable, setmetatable, unpack = getmetatable, setmetatable, unpack
local insert, remove, sort, concat, maxn = table.insert, table.remove, table.sort, table.concat, table.maxn
local foreach = table.foreach

local hidden = {}  -- what each protected table shows
local shown = {}   -- its metatable, as getmetatable tells
local meta = {}    -- and the one that it has

local READ_ONLY = "Attempt to modify a readonly table"

local function refuse()
    error(READ_ONLY, 2)
end

-- A protected view of `real`; `missing` is called for a key that it has not.
local function protect(real, missing)
    local view = {}
    if missing then
        setmetatable(real, { __index = missing })
    end
    hidden[view] = real
    meta[view] = { __index = real, __newindex = refuse }
    return setmetatable(view, meta[view])
end

-- Where an error says that something is missing: `name` may be anything.
local function missing(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

local base = {}

function base.next(...)
    local view, key = ...
    local real = hidden[view or false]
    if real then
        return next(real, key)
    end
    return next(...)
end

function base.pairs(...)
    local list = ...
    if type(list) ~= "table" then
        local got = select("#", ...) == 0 and "no value" or type(list)
        error("bad argument #1 to 'pairs' (table expected, got " .. got .. ")", 2)
    end
    return base.next, list, nil
end

function base.rawget(...)
    local view, key = ...
    local real = hidden[view or false]
    if real and select("#", ...) > 1 then
        return rawget(real, key)
    end
    return rawget(...)
end

function base.rawset(...)
    if hidden[... or false] then
        error(READ_ONLY, 0)
    end
    return rawset(...)
end

function base.setmetatable(...)
    if hidden[... or false] then
        error(READ_ONLY, 0)
    end
    return setmetatable(...)
end

function base.getmetatable(...)
    local value = ...
    if type(value) == "string" then
        return part.of_strings
    end
    if hidden[value or false] then
        return shown[value]
    end
    return getmetatable(...)
end

local tables = {}
for name, f in next, table do
    tables[name] = f
end

-- With a position far below 1 the stock function would move billions of elements that are not.
function tables.insert(...)
    local list, place = ...
    if hidden[list or false] then
        error(READ_ONLY, 0)
    end
    if select("#", ...) > 2 and type(place) == "number" and not (place > -10000 and place < 1e9) then
        error("bad argument #2 to 'insert' (position out of bounds)", 2)
    end
    return insert(...)
end

function tables.remove(...)
    local list = ...
    if hidden[list or false] then
        return nil
    end
    return remove(...)
end

function tables.foreach(...)
    local list, f = ...
    if hidden[list or false] and type(f) == "function" then
        return foreach(hidden[list], f)
    end
    return foreach(...)
end

part.protect = protect
part.missing = missing
part.null = newproxy()  -- cjson.null: equal to nothing but itself
part.shown = shown
part.meta = meta
part.base = base
part.table = tables
