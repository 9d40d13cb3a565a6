-- The worlds that scripts and functions see, and how they are run.

local host, part = ...

local next, rawget, setmetatable, type, xpcall = next, rawget, setmetatable, type, xpcall
local concat, select, tostring = table.concat, select, tostring
local protect, missing, compile, place, encode = part.protect, part.missing, part.compile, part.place, part.encode

local NAMES = {
    "assert", "error", "gcinfo", "ipairs", "rawequal", "select", "tostring", "type", "_VERSION",
}

local libraries = {
    bit = part.bit, cjson = part.cjson, cmsgpack = part.cmsgpack, coroutine = part.coroutine,
    math = part.math, os = { clock = os.clock }, string = part.string, struct = part.struct,
    table = part.table,
}
for name, library in next, libraries do
    libraries[name] = protect(library)
end
part.of_strings = protect({ __index = libraries.string })

-- Globals, and their protected view, which stands for _G.
local function world(redis)
    local globals = {}
    for name, library in next, libraries do
        globals[name] = library
    end
    for _, name in next, NAMES do
        globals[name] = _G[name]
    end
    for name, f in next, part.base do
        globals[name] = f
    end
    globals.redis = redis
    globals.server = redis
    local view = protect(globals, missing)
    part.shown[view] = protect({})
    globals._G = view
    globals.load, globals.loadstring = part.loaders(view)
    return globals, view
end

local script_globals, script_view = world(protect(part.redis_of_scripts, nil))
local function_globals, function_view = world(protect(part.redis_of_functions, nil))
script_globals.KEYS, script_globals.ARGV = {}, {}

-- While a library is loaded its globals are these few.
local redis_at_load = protect(part.redis_at_load, missing)
local load_globals = setmetatable({ redis = redis_at_load, server = redis_at_load }, { __index = missing })
local function_meta = part.meta[function_view]

-- --- running ------------------------------------------------------------------------------------

local RESULT, STATUS, ERROR, ENCODED = 0, 1, 2, 3

-- Errors as tables, with the place in the script where they came up.
local function on_error(problem)
    if type(problem) ~= "table" then
        problem = { err = "ERR " .. tostring(part.relocate(problem)) }
    end
    local source, line = place(3)
    if source then
        problem.source, problem.line = source, line
    end
    return problem
end

local function finish(value, protocol)
    local kind = type(value)
    if kind == "string" or kind == "number" then
        return RESULT, value
    elseif kind == "table" then
        local text = rawget(value, "err")
        if type(text) == "string" then
            return ERROR, text
        end
        text = rawget(value, "ok")
        if type(text) == "string" then
            return STATUS, part.line(text)
        end
        local parts = {}
        encode(parts, value, 1, protocol)
        return ENCODED, concat(parts)
    elseif kind == "boolean" then
        if part.resp == 3 then
            return RESULT, value
        end
        return RESULT, value and 1 or nil
    end
    return RESULT, nil
end

local function text_of(problem)
    if type(problem) ~= "table" then  -- out of memory: nobody could handle it
        return "ERR " .. tostring(problem)
    end
    local text = rawget(problem, "err")
    if type(text) ~= "string" then
        text = "ERR unknown error"
    end
    local source, line = problem.source, problem.line
    if source and line then
        text = text .. " script: on " .. source .. ":" .. line .. "."
    end
    return text
end

local current, first, second, client_protocol

local function main()
    return finish(current(first, second), client_protocol)
end

local function execute(f, protocol)
    current, client_protocol, part.resp = f, protocol, 2
    local good, kind, value = xpcall(main, on_error)
    if good then
        return kind, value
    end
    return ERROR, text_of(kind)
end

-- Split the arguments of a call: the first `count` are keys.
local function split(count, ...)
    if count == 0 then
        return {}, { ... }
    elseif count == 1 then
        local key = ...
        return { key }, { select(2, ...) }
    end
    local keys, all = {}, { ... }
    for i = 1, count do
        keys[i] = all[i]
    end
    return keys, { select(count + 1, ...) }
end

function part.run_script(f, protocol, count, ...)
    script_globals.KEYS, script_globals.ARGV = split(count, ...)
    return execute(f, protocol)
end

-- The same where the arguments are too many for the stack: two tables.
function part.run_script_with(f, protocol, keys, arguments)
    script_globals.KEYS, script_globals.ARGV = keys, arguments
    return execute(f, protocol)
end

function part.run_function(number, protocol, count, ...)
    first, second = split(count, ...)
    return execute(part.registered[number], protocol)
end

function part.run_function_with(number, protocol, keys, arguments)
    first, second = keys, arguments
    return execute(part.registered[number], protocol)
end

function part.load_library(f)
    function_meta.__index = load_globals
    local good, problem = xpcall(f, on_error)
    function_meta.__index = function_globals
    if not good then
        return type(problem) == "table" and rawget(problem, "err") or tostring(problem)
    end
end

function part.end_load()
    function_meta.__index = function_globals
end

function part.compile_script(source)
    return compile(source, "@user_script", script_view)
end

function part.compile_library(source)
    return compile(source, "@user_function", function_view)
end
