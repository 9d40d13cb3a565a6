"""GEOADD GEOPOS GEODIST GEOHASH, and searching: GEOSEARCH GEOSEARCHSTORE GEORADIUS GEORADIUS_RO
GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO. A geospatial index is a sorted set of geohashes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from node.command import DENYOOM, READONLY, WRITE, Keys, command
from node.commands.arguments import floating, integer
from node.commands.zset import zadd
from node.commands.zset_ranges import store
from node.data import geo
from node.data.geo import Box, Circle, Point, Polygon, Shape
from node.data.number import format_double
from node.data.zset import ZSet
from node.replies import NULL_ARRAY, SYNTAX, Decimal, ReplyError, printed
from node.session import Session

_UNIT = ReplyError(b"ERR unsupported unit provided. please use M, KM, FT, MI")
_RADIUS = ReplyError(b"ERR need numeric radius")
_NEGATIVE_RADIUS = ReplyError(b"ERR radius cannot be negative")
_WIDTH = ReplyError(b"ERR need numeric width")
_HEIGHT = ReplyError(b"ERR need numeric height")
_NEGATIVE_BOX = ReplyError(b"ERR height or width cannot be negative")
_COUNT = ReplyError(b"ERR COUNT must be > 0")
_ANY_NEEDS_COUNT = ReplyError(b"ERR the ANY argument requires COUNT argument")
_VERTICES = ReplyError(b"ERR invalid number of vertices")
_FEW_VERTICES = ReplyError(b"ERR GEOSEARCH BYPOLYGON must have at least 3 vertices")

_METRES = {b"m": 1.0, b"km": 1000.0, b"ft": 0.3048, b"mi": 1609.34}
_UNITS = "<M | KM | FT | MI>"
_N_AND_M = "O(N+log(M)) for N members in the cells that cover the shape, M in the shape"
_N_AND_ALL = "O(N+log(M)) for N members in the cells that cover the circle, M in the index"
_UPPER_CASE = ("7.0.0", "Added support for uppercase unit names.")
_ANY = ("6.2.0", "Added the `ANY` option for `COUNT`.")


# --- arguments and replies ------------------------------------------------------------------------


def _point(args: list[bytes], i: int) -> Point:
    """The longitude and latitude at args[i]."""
    longitude, latitude = floating(args[i]), floating(args[i + 1])
    if abs(longitude) > geo.LONGITUDE_MAX or abs(latitude) > geo.LATITUDE_MAX:
        raise ReplyError(b"ERR invalid longitude,latitude pair %f,%f" % (longitude, latitude))
    return longitude, latitude


def _unit(arg: bytes) -> float:
    metres = _METRES.get(arg.lower())
    if metres is None:
        raise _UNIT
    return metres


def _radius(args: list[bytes], i: int) -> tuple[float, float]:
    """The radius and unit at args[i]."""
    radius = floating(args[i], _RADIUS)
    if radius < 0:
        raise _NEGATIVE_RADIUS
    return radius, _unit(args[i + 1])


def _member_point(value: ZSet, member: bytes) -> Point:
    score = value.scores.get(member)
    if score is None:
        raise ReplyError(b"ERR member %b does not exist" % printed(member))
    return geo.decode(score)


def _shown_distance(number: float) -> bytes:
    """With four decimals, rounded as a C library does."""
    if number != number:
        return b"nan"
    whole, fraction = divmod(round(number * 10000.0), 10000)
    return b"%d.%04d" % (whole, fraction)


def _shown_point(point: Point) -> list[Decimal]:
    return [Decimal(_digits(number)) for number in point]


def _digits(number: float) -> bytes:
    """With up to seventeen decimals."""
    shown = (b"%.17f" % number).rstrip(b"0").rstrip(b".")
    return b"0" if shown == b"-0" else shown


# --- members --------------------------------------------------------------------------------------


@command(
    "GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
    flags=WRITE | DENYOOM,
    group="geo",
    since="3.2.0",
    complexity="O(log(N)) for every member",
    history=(("6.2.0", "Added the `CH`, `NX` and `XX` options."),),
)
def geoadd(session: Session, args: list[bytes]) -> Any:
    """Add places to a geospatial index, which is made if there is none."""
    i = 2
    while i < len(args) and args[i].upper() in (b"NX", b"XX", b"CH"):
        i += 1
    options = {arg.upper() for arg in args[2:i]}
    if (len(args) - i) % 3 or options >= {b"NX", b"XX"}:
        raise SYNTAX
    words = [b"ZADD", *args[1:i]]
    for j in range(i, len(args), 3):
        words += (b"%d" % geo.encode(*_point(args, j)), args[j + 2])
    keyspace = session.db.keyspace
    dirty = keyspace.dirty
    value = zadd(session, words)
    if keyspace.dirty != dirty:
        session.effects = [words]
    return value


@command(
    "GEOPOS key [member ...]",
    flags=READONLY,
    group="geo",
    since="3.2.0",
    complexity="O(1) for every member",
)
def geopos(session: Session, args: list[bytes]) -> list[Any]:
    """Where members are: longitude and latitude."""
    scores = _scores(session, args)
    return [NULL_ARRAY if one is None else _shown_point(geo.decode(one)) for one in scores]


@command(
    "GEOHASH key [member ...]",
    flags=READONLY,
    group="geo",
    since="3.2.0",
    complexity="O(1) for every member",
)
def geohash(session: Session, args: list[bytes]) -> list[Any]:
    """Where members are: as geohashes of eleven letters."""
    scores = _scores(session, args)
    return [None if score is None else geo.text(geo.decode(score)) for score in scores]


def _scores(session: Session, args: list[bytes]) -> list[float | None]:
    value = session.db.look(args[1], ZSet)
    scores = {} if value is None else value.scores
    return [scores.get(member) for member in args[2:]]


@command(
    "GEODIST key member1 member2 [M | KM | FT | MI]",
    flags=READONLY,
    group="geo",
    since="3.2.0",
    complexity="O(1)",
)
def geodist(session: Session, args: list[bytes]) -> bytes | None:
    """How far two members are from each other."""
    unit = _unit(args[4]) if len(args) == 5 else 1.0
    if len(args) > 5:
        raise SYNTAX
    value = session.db.look(args[1], ZSet)
    if value is None:
        return None
    one, other = value.scores.get(args[2]), value.scores.get(args[3])
    if one is None or other is None:
        return None
    return _shown_distance(geo.distance(geo.decode(one), geo.decode(other)) / unit)


# --- searching ------------------------------------------------------------------------------------

Found = tuple[float, float, bytes]  # distance, score, member


@attrs.define
class _Search:
    """What a search was asked for, option by option.

    value: the index, None where there is none. make: the shape, once its center is known.
    """

    args: list[bytes]
    value: ZSet | None
    searches: bool  # GEOSEARCH, not GEORADIUS
    target: bytes | None = None  # where to store
    may_store: bool = False
    center: Point | None = None
    by: bytes = b""
    origin: bytes = b""
    make: Callable[[Point], Shape] | None = None
    unit: float = 1.0
    order: bytes = b""
    most: int = 0
    any: bool = False
    stores_distance: bool = False
    shown: set[bytes] = attrs.field(factory=set)

    def parse(self, i: int) -> None:
        """Read the options from args[i] on; raises ReplyError."""
        while i < len(self.args):
            word = self.args[i].upper()
            i += 1
            i += self._option(word, i, len(self.args) - i)
        self._check()

    def _option(self, word: bytes, i: int, left: int) -> int:
        """Take an option whose arguments begin at args[i]; how many it has."""
        if word in (b"WITHDIST", b"WITHHASH", b"WITHCOORD"):
            self.shown.add(word)
        elif word == b"ANY":
            self.any = True
        elif word in (b"ASC", b"DESC"):
            self.order = word
        elif word == b"COUNT" and left:
            return self._count(i)
        elif word in (b"STORE", b"STOREDIST") and left and self.may_store and not self.searches:
            self.target = self.args[i]
            self.stores_distance = word == b"STOREDIST"
            return 1
        elif word == b"STOREDIST" and self.may_store and self.searches:
            self.stores_distance = True
        elif self.searches and word in _SHAPES:
            return _SHAPES[word](self, word, i, left)
        else:
            raise SYNTAX
        return 0

    def _count(self, i: int) -> int:
        self.most = integer(self.args[i])
        if self.most <= 0:
            raise _COUNT
        return 1

    def _from(self, word: bytes, i: int, left: int) -> int:
        number = 1 if word == b"FROMMEMBER" else 2
        if left < number or self.origin not in (b"", word) or self.by == b"BYPOLYGON":
            raise SYNTAX
        if number == 2:
            self.center = _point(self.args, i)
        elif self.value is not None:
            self.center = _member_point(self.value, self.args[i])
        self.origin = word
        return number

    def _by_radius(self, word: bytes, i: int, left: int) -> int:
        self._begin_shape(word, left, 2)
        radius, unit = _radius(self.args, i)
        self.make, self.unit = lambda center: Circle(center, radius, unit), unit
        return 2

    def _by_box(self, word: bytes, i: int, left: int) -> int:
        self._begin_shape(word, left, 3)
        width, height = floating(self.args[i], _WIDTH), floating(self.args[i + 1], _HEIGHT)
        if width < 0 or height < 0:
            raise _NEGATIVE_BOX
        unit = _unit(self.args[i + 2])
        self.make, self.unit = lambda center: Box(center, width, height, unit), unit
        return 3

    def _by_polygon(self, word: bytes, i: int, left: int) -> int:
        if self.origin:
            raise SYNTAX
        self._begin_shape(word, left, 2)
        number = integer(self.args[i], _VERTICES)
        if not -(1 << 31) <= number < 1 << 31:
            raise _VERTICES
        if number < 3 or (left - 1) // 2 < number:
            raise _FEW_VERTICES
        corners = [_point(self.args, i + 1 + 2 * j) for j in range(number)]
        self.make, self.unit = lambda _: Polygon(corners), 1.0
        return 1 + 2 * number

    def _begin_shape(self, word: bytes, left: int, number: int) -> None:
        if left < number or self.by not in (b"", word):
            raise SYNTAX
        self.by = word

    def _check(self) -> None:
        if self.target is not None and self.shown:
            what = b"GEOSEARCHSTORE" if self.searches else b"STORE option in GEORADIUS"
            raise ReplyError(
                b"ERR %b is not compatible with WITHDIST, WITHHASH and WITHCOORD options" % what
            )
        if self.searches and not self.origin and self.by != b"BYPOLYGON":
            raise ReplyError(
                b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %b"
                % self.args[0]
            )
        if self.searches and not self.by:
            raise ReplyError(
                b"ERR exactly one of BYRADIUS, BYBOX and BYPOLYGON can be specified for %b"
                % self.args[0]
            )
        if self.any and not self.most:
            raise _ANY_NEEDS_COUNT

    def find(self) -> list[Found]:
        """The members in the shape, in the order and number asked for. O(log N + M) for each cell
        and for M members of its cells."""
        if self.value is None or self.make is None:
            return []
        order = self.order
        if self.most and not order and not self.any:
            order = b"ASC"
        found = self._gather(self.make(self.center or (0.0, 0.0)))
        if order:
            found.sort(key=lambda one: one[0], reverse=order == b"DESC")
        return found[: self.most] if self.most else found

    def _gather(self, shape: Shape) -> list[Found]:
        assert self.value is not None
        limit = self.most if self.any else 0
        found: list[Found] = []
        for low, high in geo.ranges(shape):
            for score, member in self.value.by_score((low, False), (high, True)):
                metres = shape.distance_to(geo.decode(score))
                if metres is not None:
                    found.append((metres, score, member))
                    if len(found) == limit:
                        return found
        return found

    def reply(self, found: list[Found]) -> list[Any]:
        if not self.shown:
            return [member for _, _, member in found]
        return [self._described(*one) for one in found]

    def _described(self, metres: float, score: float, member: bytes) -> list[Any]:
        parts: list[Any] = [member]
        if b"WITHDIST" in self.shown:
            parts.append(_shown_distance(metres / self.unit))
        if b"WITHHASH" in self.shown:
            parts.append(int(score))
        if b"WITHCOORD" in self.shown:
            parts.append(_shown_point(geo.decode(score)))
        return parts

    def keep(self, session: Session, found: list[Found]) -> int:
        """Store what was found."""
        assert self.target is not None
        scores = {
            member: metres / self.unit if self.stores_distance else score
            for metres, score, member in found
        }
        value = ZSet(session.node.keyspace.limits, scores)
        event = b"geosearchstore" if self.searches else b"georadiusstore"
        keyspace = session.db.keyspace
        dirty = keyspace.dirty
        count = store(session, self.target, value, event)
        if self.by == b"BYPOLYGON" and keyspace.dirty != dirty:
            session.effects = _as_zadd(self.target, scores)
        return count


def _as_zadd(key: bytes, scores: dict[bytes, float]) -> list[list[bytes]]:
    """What was stored, in words that a replica which knows no polygons understands."""
    pairs = [part for member, score in scores.items() for part in (format_double(score), member)]
    return [[b"DEL", key], *([[b"ZADD", key, *pairs]] if pairs else [])]


_SHAPES: dict[bytes, Callable[[_Search, bytes, int, int], int]] = {
    b"FROMMEMBER": _Search._from,
    b"FROMLONLAT": _Search._from,
    b"BYRADIUS": _Search._by_radius,
    b"BYBOX": _Search._by_box,
    b"BYPOLYGON": _Search._by_polygon,
}


def _run(session: Session, search: _Search) -> Any:
    found = search.find()
    return search.reply(found) if search.target is None else search.keep(session, found)


# --- GEOSEARCH ------------------------------------------------------------------------------------

_WHERE = (
    "[FROMMEMBER member | FROMLONLAT longitude latitude] "
    f"<<BYRADIUS radius> {_UNITS} | <BYBOX width> height {_UNITS} | "
    "<BYPOLYGON num-vertices> <longitude latitude ...>> [ASC | DESC] [<COUNT count> [ANY]]"
)
_POLYGONS = ("9.0.0", "Added support for the BYPOLYGON option.")


@command(
    f"GEOSEARCH key {_WHERE} [WITHCOORD] [WITHDIST] [WITHHASH]",
    flags=READONLY,
    group="geo",
    since="6.2.0",
    arity=-7,
    complexity=_N_AND_M,
    history=(_UPPER_CASE, _POLYGONS),
)
def geosearch(session: Session, args: list[bytes]) -> Any:
    """The members inside a circle, a box or a polygon."""
    search = _Search(args, session.db.look(args[1], ZSet), searches=True)
    search.parse(2)
    return _run(session, search)


@command(
    f"GEOSEARCHSTORE destination source {_WHERE} [STOREDIST]",
    flags=WRITE | DENYOOM,
    group="geo",
    since="6.2.0",
    arity=-8,
    keys=(Keys("OW UPDATE"), Keys("RO ACCESS", first=2)),
    complexity=_N_AND_M,
    history=(_UPPER_CASE, _POLYGONS),
)
def geosearchstore(session: Session, args: list[bytes]) -> Any:
    """Store the members inside a circle, a box or a polygon, or how far they are."""
    value = session.db.look(args[2], ZSet)
    search = _Search(args, value, searches=True, target=args[1], may_store=True)
    search.parse(3)
    return _run(session, search)


# --- GEORADIUS ------------------------------------------------------------------------------------

_OPTIONS = "[WITHCOORD] [WITHDIST] [WITHHASH] [<COUNT count> [ANY]] [ASC | DESC]"
_STORE = "[STORE key | STOREDIST key]"


def _store_keys(start: int) -> tuple[Keys, ...]:
    access = "OW UPDATE VARIABLE_FLAGS"
    words = (b"STORE", b"STOREDIST")
    return (Keys("RO ACCESS"), *(Keys(access, start, keyword=word) for word in words))


def _last_store(start: int) -> Callable[[Sequence[bytes]], list[int]]:
    """The set that is searched, and the last one after STORE or STOREDIST."""

    def find(args: Sequence[bytes]) -> list[int]:
        found = [1]
        i = start
        while i < len(args) - 1:
            if args[i].upper() in (b"STORE", b"STOREDIST"):
                i += 1
                found[1:] = [i]
            i += 1
        return found

    return find


@command(
    f"GEORADIUS key longitude latitude radius {_UNITS} {_OPTIONS} {_STORE}",
    flags=WRITE | DENYOOM,
    group="geo",
    since="3.2.0",
    keys=_store_keys(6),
    find_keys=_last_store(5),
    complexity=_N_AND_ALL,
    history=(_ANY, _UPPER_CASE),
)
def georadius(session: Session, args: list[bytes]) -> Any:
    """The members within a distance from a place; stores them if asked to."""
    return _around_place(session, args, may_store=True)


@command(
    f"GEORADIUS_RO key longitude latitude radius {_UNITS} {_OPTIONS}",
    flags=READONLY,
    group="geo",
    since="3.2.10",
    complexity=_N_AND_ALL,
    history=(_ANY, _UPPER_CASE),
)
def georadius_ro(session: Session, args: list[bytes]) -> Any:
    """The members within a distance from a place."""
    return _around_place(session, args, may_store=False)


def _around_place(session: Session, args: list[bytes], may_store: bool) -> Any:
    value = session.db.look(args[1], ZSet)
    center = _point(args, 2)
    return _around(session, args, value, center, 4, may_store)


@command(
    f"GEORADIUSBYMEMBER key member radius {_UNITS} {_OPTIONS} {_STORE}",
    flags=WRITE | DENYOOM,
    group="geo",
    since="3.2.0",
    keys=_store_keys(5),
    find_keys=_last_store(5),
    complexity=_N_AND_ALL,
    history=(_ANY, _UPPER_CASE),
)
def georadiusbymember(session: Session, args: list[bytes]) -> Any:
    """The members within a distance from one of them; stores them if asked to."""
    return _around_member(session, args, may_store=True)


@command(
    f"GEORADIUSBYMEMBER_RO key member radius {_UNITS} {_OPTIONS}",
    flags=READONLY,
    group="geo",
    since="3.2.10",
    complexity=_N_AND_ALL,
    history=(_ANY, _UPPER_CASE),
)
def georadiusbymember_ro(session: Session, args: list[bytes]) -> Any:
    """The members within a distance from one of them."""
    return _around_member(session, args, may_store=False)


def _around_member(session: Session, args: list[bytes], may_store: bool) -> Any:
    value = session.db.look(args[1], ZSet)
    center = None if value is None else _member_point(value, args[2])
    return _around(session, args, value, center, 3, may_store)


def _around(
    session: Session,
    args: list[bytes],
    value: ZSet | None,
    center: Point | None,
    at: int,
    may_store: bool,
) -> Any:
    """Search within the radius at args[at]; without a center it does not matter what that is."""
    search = _Search(args, value, searches=False, center=center, may_store=may_store)
    if center is not None:
        radius, unit = _radius(args, at)
        search.make, search.unit = lambda where: Circle(where, radius, unit), unit
    search.parse(at + 2)
    return _run(session, search)
