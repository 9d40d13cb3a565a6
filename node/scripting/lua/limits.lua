-- What a script may take: time, memory, and the stack.
--
-- A hook looks at the time every SLICE instructions. Once a script is to end, the hook raises an
-- error at each instruction, so that nothing in the script can catch it for good. What could run
-- without hooks, or hide from them, is replaced here: handlers of xpcall (a hook's error runs them
-- with hooks off), coroutines (each has hooks of its own). Lua 5.1.5 itself is guarded where it
-- can be made to write outside its memory: unpack, varargs, the collector under the compiler.

local host, part = ...

local collectgarbage, error, loadstring, select, setfenv, tonumber, type =
    collectgarbage, error, loadstring, select, setfenv, tonumber, type
local gcinfo, rawget, setmetatable, unpack, xpcall = gcinfo, rawget, setmetatable, unpack, xpcall
local getinfo, sethook = debug.getinfo, debug.sethook
local byte, dump, find, format, gsub, sub = string.byte, string.dump, string.find, string.format, string.gsub, string.sub
local create, resume, status, yield, running = coroutine.create, coroutine.resume,
    coroutine.status, coroutine.yield, coroutine.running
local table_concat = table.concat

local look, is_running, ended_at, adapt = host.look, host.is_running, host.ended_at, host.adapt

local SLICE = 1000   -- instructions
local LOOKS = 50     -- slices between two looks at the clock
local HEAVY = 16384  -- KiB; with that much in use a single instruction may take long
local MUCH = 4e6     -- characters looked at inside C
local FULL = host.memory_max / 1024
local OWN = "^%[sandbox%]:%d+: "

local reason   -- why the script must end
local looks = 0
local watch

-- The place in the script that runs at this level or above: source, line.
local function place(level)
    while true do
        local info = getinfo(level, "Sl")
        if not info then
            return nil
        end
        if info.source ~= "=[sandbox]" and info.currentline > 0 then
            return info.source, info.currentline, info.short_src
        end
        level = level + 1
    end
end

local function stop()
    if not is_running() then
        reason = nil
        sethook(watch, "", SLICE)
        return
    end
    sethook(watch, "", 1)
    error({ err = reason }, 0)
end

function watch()
    if reason then
        return stop()
    end
    looks = looks + 1
    if looks < LOOKS and gcinfo() < HEAVY then
        return
    end
    looks = 0
    local why, slice = look()
    if slice then
        sethook(watch, "", slice)
    end
    if why then
        reason = why
        ended_at(place(2))
        return stop()
    end
end

sethook(watch, "", SLICE)

-- Called for work inside C that takes about as long as looking at so many characters: what is
-- much counts as many instructions.
local work = 0

local function charge(amount)
    work = work + amount
    if work > MUCH then
        work = 0
        looks = LOOKS
        watch()
    end
end

-- Called before anything is handed to the host: there, running out of memory must not happen.
local function check_memory()
    if gcinfo() > FULL then
        collectgarbage("collect")
        if gcinfo() > FULL then
            error("not enough memory", 0)
        end
    end
end

-- Errors raised by stock functions on behalf of ours name a place in here: name the script's.
local function relocate(problem)
    if type(problem) == "string" and find(problem, OWN) then
        local _, line, name = place(2)
        local where = name and line > 0 and name .. ":" .. line .. ": " or ""
        return where .. gsub(problem, OWN, "", 1)
    end
    return problem
end

-- What pcall gives of an error: the text, where it is a table that has one.
local function text_of(problem)
    if type(problem) == "table" then
        local text = rawget(problem, "err")
        return text == nil and problem or text
    end
    return relocate(problem)
end

-- An error's text without a place in here.
local function without_place(problem)
    return (gsub(problem, OWN, "", 1))
end

local function guarded_pcall(...)
    local count = select("#", ...)
    local f = ...
    if count == 0 then
        return false, "attempt to call a boolean value"
    end
    if count == 1 then
        return xpcall(f, text_of)
    end
    local arguments = { select(2, ...) }
    return xpcall(function()
        return f(unpack(arguments, 1, count - 1))
    end, text_of)
end

local function handled(handler, good, ...)
    if good then
        return true, ...
    end
    local problem = ...
    local _, value = xpcall(function()
        return handler(problem)
    end, relocate)
    return false, value
end

local function guarded_xpcall(...)
    local f, handler = ...
    if select("#", ...) < 2 then
        error("bad argument #2 to 'xpcall' (value expected)", 2)
    end
    return handled(handler, xpcall(f, relocate))
end

local MOST = 7999  -- values on the stack at once

local function is_int(number)
    return number >= -2147483648 and number <= 2147483647
end

local function guarded_unpack(...)
    local list, first, last = ...
    if type(list) == "table" then
        local i = first == nil and 1 or tonumber(first)
        local j = last == nil and #list or tonumber(last)
        if i and j and not (is_int(i) and is_int(j) and j - i < MOST) then
            error("too many results to unpack", 2)
        end
    end
    return unpack(...)
end

local function guarded_create(...)
    local thread = create(...)
    sethook(thread, watch, "", SLICE)
    return thread
end

local function resumed(...)
    if reason then
        stop()
    end
    return ...
end

local function guarded_resume(...)
    watch()
    return resumed(resume(...))
end

local function unwrapped(good, ...)
    if good then
        return ...
    end
    local problem = ...
    if type(problem) == "string" then
        error(problem, 3)
    end
    error(problem, 0)
end

local function guarded_wrap(...)
    if type(...) ~= "function" then
        error("bad argument #1 to 'wrap' (Lua function expected)", 2)
    end
    local thread = guarded_create(...)
    return function(...)
        return unwrapped(guarded_resume(thread, ...))
    end
end

-- Options that would change how memory is collected for all scripts to come do nothing.
local MAY_COLLECT = { collect = true, count = true, step = true }
local CHANGES = { stop = true, restart = true, setpause = true, setstepmul = true }

local function guarded_collect(...)
    local option = ...
    if CHANGES[option] then
        return 0
    end
    return collectgarbage(...)
end

-- A function, or nil and what is wrong with the source. No bytecode: it could do anything.
local function compile(source, name, environment)
    name = name or source
    if byte(source, 1) == 27 then
        source = " " .. source
    end
    collectgarbage("stop")
    local f, problem = loadstring(source, name)
    collectgarbage("restart")
    if not f then
        return nil, problem
    end
    if find(source, "...", 1, true) or find(source, "return", 1, true) then
        check_memory()
        local code = adapt(dump(f))
        if not code then
            return nil, "a function with '...' has too many named parameters"
        end
        collectgarbage("stop")
        f = loadstring(code)
        collectgarbage("restart")
    end
    return setfenv(f, environment)
end

-- load and loadstring for scripts whose globals are `environment`.
local function loaders(environment)
    local function guarded_loadstring(...)
        local source, name = ...
        if type(source) == "number" then
            source = source .. ""
        end
        if type(source) ~= "string" or (name ~= nil and type(name) ~= "string") then
            return loadstring(...)
        end
        return compile(source, name, environment)
    end

    local function guarded_load(...)
        local f, name = ...
        if type(f) ~= "function" or (name ~= nil and type(name) ~= "string") then
            return load(...)
        end
        local pieces = {}
        while true do
            local piece = f()
            if piece == nil or piece == "" then
                break
            end
            if type(piece) ~= "string" then
                return nil, "reader function must return a string"
            end
            pieces[#pieces + 1] = piece
        end
        return compile(table_concat(pieces), name or "=(load)", environment)
    end

    return guarded_load, guarded_loadstring
end

local base = part.base
base.pcall, base.xpcall, base.unpack = guarded_pcall, guarded_xpcall, guarded_unpack
base.collectgarbage = guarded_collect
part.coroutine = {
    create = guarded_create,
    resume = guarded_resume,
    wrap = guarded_wrap,
    status = status,
    yield = yield,
    running = running,
}
part.compile, part.loaders = compile, loaders
part.without_place = without_place
part.place, part.relocate, part.check_memory, part.charge = place, relocate, check_memory, charge
