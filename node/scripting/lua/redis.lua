-- The `redis` table (`server` is the same), and replies: what commands answer becomes Lua values,
-- what scripts return becomes a reply.

local host, part = ...

local error, floor, next, pcall, rawget, select, setmetatable, tostring, type =
    error, math.floor, next, pcall, rawget, select, setmetatable, tostring, type
local concat, find, format, gsub, sub = table.concat, string.find, string.format, string.gsub, string.sub
local check_memory = part.check_memory
local invoke = host.invoke

-- --- what commands answer -----------------------------------------------------------------------

-- How the host marks an answer that is more than a value.
local STATUS, ERROR, SMALL = 1, 2, 3

local function failure(text)
    return { err = text, ignore_error_stats_update = true }
end

local function special(value, kind)
    if kind == STATUS then
        return { ok = value }
    elseif kind == ERROR then
        return failure(value)
    end
    error("not enough memory", 0)
end

-- So many values the host takes from the stack; more go there in a table.
local MOST = 7000

local function asked(...)
    if select("#", ...) > MOST then
        return host.invoke_all({ ... })
    end
    return invoke(...)
end

local api = {}

function api.call(...)
    check_memory()
    local value, kind = asked(...)
    if not kind then
        return value
    elseif kind == ERROR then
        error(failure(value), 0)
    end
    return special(value, kind)
end

function api.pcall(...)
    check_memory()
    local value, kind = asked(...)
    if not kind then
        return value
    end
    return special(value, kind)
end

-- --- the rest of the interface ------------------------------------------------------------------

local function is_text(value)
    return type(value) == "string" or type(value) == "number"
end

local function one_text(...)
    return select("#", ...) == 1 and type(...) == "string"
end

function api.error_reply(...)
    if not one_text(...) then
        return { err = "ERR wrong number or type of arguments" }
    end
    local text = ...
    if sub(text, 1, 1) == "-" then
        text = sub(text, 2)
    end
    return { err = find(text, " ", 1, true) and text or "ERR " .. text }
end

function api.status_reply(...)
    if not one_text(...) then
        return { err = "ERR wrong number or type of arguments" }
    end
    return { ok = (...) }
end

function api.sha1hex(...)
    if select("#", ...) ~= 1 then
        error(failure("ERR wrong number of arguments"), 0)
    end
    check_memory()
    local text = ...
    return host.sha1hex(is_text(text) and text .. "" or "")
end

function api.log(...)
    local level = ...
    local count = select("#", ...)
    if count < 2 then
        error(failure("ERR server.log() requires two arguments or more."), 0)
    elseif type(level) ~= "number" and not tonumber(level) then
        error(failure("ERR First argument must be a number (log level)."), 0)
    end
    level = floor(tonumber(level))
    if level < 0 or level > 3 then
        error(failure("ERR Invalid log level."), 0)
    end
    local words = {}
    for i = 2, count do
        local word = select(i, ...)
        if is_text(word) then
            words[#words + 1] = word
        end
    end
    check_memory()
    host.log(level, concat(words, " "))
end

function api.setresp(...)
    if select("#", ...) ~= 1 then
        error(failure("ERR server.setresp() requires one argument."), 0)
    end
    local version = floor(tonumber((...)) or 0)
    if version ~= 2 and version ~= 3 then
        error(failure("ERR RESP version must be 2 or 3."), 0)
    end
    host.setresp(version)
    part.resp = version
end

function api.set_repl(...)
    if select("#", ...) ~= 1 then
        error(failure("ERR server.set_repl() requires one argument."), 0)
    end
    local audience = floor(tonumber((...)) or 0)
    if not (audience >= 0 and audience <= 3) then
        error(failure("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."), 0)
    end
    host.set_repl(audience)
end

function api.acl_check_cmd(...)
    check_memory()
    local value, kind = host.may_run(...)
    if kind then
        error(failure(value), 0)
    end
    return value
end

local constants = {
    LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
    REDIS_VERSION = host.redis_version, REDIS_VERSION_NUM = host.redis_version_num,
    VALKEY_VERSION = host.valkey_version, VALKEY_VERSION_NUM = host.valkey_version_num,
    SERVER_NAME = host.server_name,
}

local REPL = { REPL_NONE = 0, REPL_AOF = 1, REPL_REPLICA = 2, REPL_SLAVE = 2, REPL_ALL = 3 }

local function with(...)
    local all = {}
    for i = 1, select("#", ...) do
        for name, value in next, (select(i, ...)) do
            all[name] = value
        end
    end
    return all
end

-- Only scripts, not functions, have these.
local of_scripts = {}

function of_scripts.replicate_commands()
    return true
end

function of_scripts.breakpoint()
    return false
end

of_scripts["debug"] = function()
end

-- --- functions of libraries ---------------------------------------------------------------------

local registered = {}  -- callbacks, by the number that the host knows them by
local at_load = { log = api.log }

local function wrong(text)
    error(failure("ERR " .. text), 0)
end

local function flags_of(list)
    if type(list) ~= "table" then
        wrong("flags argument to server.register_function must be a table representing function flags")
    end
    local flags = {}
    for i = 1, #list do
        if type(list[i]) ~= "string" then
            wrong("unknown flag given")
        end
        flags[i] = list[i]
    end
    return concat(flags, ",")
end

local function named_arguments(list)
    if type(list) ~= "table" then
        wrong("calling server.register_function with a single argument is only applicable to Lua " ..
            "table (representing named arguments).")
    end
    local name, callback, description, flags
    for key, value in next, list do
        if key == "function_name" then
            name = is_text(value) and value .. "" or
                wrong("function_name argument given to server.register_function must be a string")
        elseif key == "callback" then
            if type(value) ~= "function" then
                wrong("callback argument given to server.register_function must be a function")
            end
            callback = value
        elseif key == "description" then
            description = is_text(value) and value .. "" or
                wrong("description argument given to server.register_function must be a string")
        elseif key == "flags" then
            flags = flags_of(value)
        else
            wrong("unknown argument given to server.register_function")
        end
    end
    if not name then
        wrong("server.register_function must get a function name argument")
    elseif not callback then
        wrong("server.register_function must get a callback argument")
    end
    return name, callback, description, flags
end

local function positional_arguments(name, callback)
    if not is_text(name) then
        wrong("first argument to server.register_function must be a string")
    elseif type(callback) ~= "function" then
        wrong("second argument to server.register_function must be a function")
    end
    return name .. "", callback
end

function at_load.register_function(...)
    local count = select("#", ...)
    if count < 1 or count > 2 then
        wrong("wrong number of arguments to server.register_function")
    end
    local parse = count == 1 and named_arguments or positional_arguments
    local name, callback, description, flags = parse(...)
    check_memory()
    local number, mark = host.register(name, description or false, flags or "")
    if mark then
        error(failure(number), 0)
    end
    registered[number] = callback
end

function part.forget_function(number)
    registered[number] = nil
end

part.registered = registered
part.redis_of_scripts = with(constants, REPL, api, of_scripts)
part.redis_of_functions = with(constants, REPL, api)
part.redis_at_load = with(constants, at_load)

-- --- what scripts return ------------------------------------------------------------------------

local encode

local function bulk(text)
    return "$" .. #text .. "\r\n" .. text .. "\r\n"
end

local function line(text)
    return (gsub(text, "[\r\n]", " "))
end

local function encode_map(parts, map, depth, protocol)
    local head = #parts + 1
    parts[head] = ""
    local count = 0
    for key, value in next, map do
        encode(parts, key, depth, protocol)
        encode(parts, value, depth, protocol)
        count = count + 1
    end
    parts[head] = protocol == 3 and "%" .. count .. "\r\n" or "*" .. 2 * count .. "\r\n"
end

local function encode_set(parts, set, depth, protocol)
    local head = #parts + 1
    parts[head] = ""
    local count = 0
    for member in next, set do
        encode(parts, member, depth, protocol)
        count = count + 1
    end
    parts[head] = (protocol == 3 and "~" or "*") .. count .. "\r\n"
end

local function encode_verbatim(parts, value, protocol)
    local text, kind = rawget(value, "string"), rawget(value, "format")
    if type(text) ~= "string" or type(kind) ~= "string" then
        return false
    end
    if protocol == 3 then
        kind = sub(kind .. "   ", 1, 3)
        parts[#parts + 1] = "=" .. #text + 4 .. "\r\n" .. kind .. ":" .. text .. "\r\n"
    else
        parts[#parts + 1] = bulk(text)
    end
    return true
end

-- A table that stands for a reply which Lua has no type for; false where it is an array.
local function encode_special(parts, value, depth, protocol)
    local text = rawget(value, "err")
    if type(text) == "string" then
        parts[#parts + 1] = "-" .. line(text) .. "\r\n"
        return true
    end
    text = rawget(value, "ok")
    if type(text) == "string" then
        parts[#parts + 1] = "+" .. line(text) .. "\r\n"
        return true
    end
    local number = rawget(value, "double")
    if type(number) == "number" then
        local digits = number == 0 and (1 / number < 0 and "-0" or "0") or host.double(number)
        parts[#parts + 1] = protocol == 3 and "," .. digits .. "\r\n" or bulk(digits)
        return true
    end
    local inner = rawget(value, "map")
    if type(inner) == "table" then
        encode_map(parts, inner, depth, protocol)
        return true
    end
    inner = rawget(value, "set")
    if type(inner) == "table" then
        encode_set(parts, inner, depth, protocol)
        return true
    end
    text = rawget(value, "big_number")
    if type(text) == "string" then
        text = line(text)
        parts[#parts + 1] = protocol == 3 and "(" .. text .. "\r\n" or bulk(text)
        return true
    end
    inner = rawget(value, "verbatim_string")
    return type(inner) == "table" and encode_verbatim(parts, inner, protocol)
end

local function integer(number)
    if not (number > -9223372036854775808 and number < 9223372036854775808) then
        return "-9223372036854775808"
    end
    return format("%d", number)
end

local DEEPEST = 7994

function encode(parts, value, depth, protocol)
    local kind = type(value)
    if kind == "string" then
        parts[#parts + 1] = bulk(value)
    elseif kind == "number" then
        parts[#parts + 1] = ":" .. integer(value) .. "\r\n"
    elseif kind == "boolean" then
        if part.resp == 3 then
            local bool = value and "#t\r\n" or "#f\r\n"
            parts[#parts + 1] = protocol == 3 and bool or (value and ":1\r\n" or ":0\r\n")
        else
            parts[#parts + 1] = value and ":1\r\n" or protocol == 3 and "_\r\n" or "$-1\r\n"
        end
    elseif kind ~= "table" then
        parts[#parts + 1] = protocol == 3 and "_\r\n" or "$-1\r\n"
    elseif depth > DEEPEST then
        parts[#parts + 1] = "-ERR reached lua stack limit\r\n"
    elseif not encode_special(parts, value, depth + 1, protocol) then
        local head = #parts + 1
        parts[head] = ""
        local i = 1
        local item = rawget(value, 1)
        while item ~= nil do
            encode(parts, item, depth + 1, protocol)
            i = i + 1
            item = rawget(value, i)
        end
        parts[head] = "*" .. i - 1 .. "\r\n"
    end
end

part.encode, part.line = encode, line
