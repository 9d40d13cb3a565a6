"""Places on earth as scores of a sorted set: geohashes, shapes, and the cells that cover them.

A geohash of 52 bits halves the range of the longitude and that of the latitude 26 times each and
interleaves the halves chosen, the longitude's in the higher bit of each pair. Latitudes end at
85.05112878 degrees, where the square map of the web does. A hash cut short is a cell, and the
scores in it are a range: so a search looks into the cell around its center and the eight around
that one, as coarse as the shape needs.

Longitudes and latitudes are in degrees, distances in metres on a sphere. Values that make no sense
give not-a-number, as in C, and no error.
Sources: https://redis.io/docs/latest/commands/geoadd/ and .../geosearch/; the haversine formula;
W. R. Franklin, PNPOLY, for points in polygons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import asin, atan2, cos, isfinite, nan, pi, sin, sqrt

import attrs

LONGITUDE_MAX = 180.0
LATITUDE_MAX = 85.05112878
STEPS = 26
EARTH_RADIUS_M = 6372797.560856

_MERCATOR_MAX_M = 20037726.37  # half the side of the square map
_RADIAN = pi / 180.0
_NEXT_TO_NOTHING = 1e-15  # some nanometres

Point = tuple[float, float]  # longitude, latitude
Bounds = tuple[float, float, float, float]  # west, south, east, north
Cell = tuple[int, int]  # columns from the west, rows from the south, for a number of steps


# --- hashes ---------------------------------------------------------------------------------------


def encode(longitude: float, latitude: float) -> int:
    """The score of a place."""
    return _interleaved(_cell((longitude, latitude), STEPS))


def decode(score: float) -> Point:
    """The middle of the place that a score stands for."""
    column, row = _cell_of(_as_unsigned(score))
    west, south, east, north = _area((column, row), STEPS)
    return _within((west + east) / 2, LONGITUDE_MAX), _within((south + north) / 2, LATITUDE_MAX)


def _within(number: float, limit: float) -> float:
    return max(-limit, min(number, limit))


def _as_unsigned(score: float) -> int:
    """A score as a 64-bit number, as C makes one of whatever it is."""
    if not isfinite(score) or score >= 1 << 64:
        return 0 if score > 0 else 1 << 63
    return int(score) & (1 << 64) - 1 if score > -(1 << 63) else 1 << 63


_ALPHABET = b"0123456789bcdefghjkmnpqrstuvwxyz"


def text(point: Point) -> bytes:
    """The common geohash of eleven letters, whose latitudes end at 90 degrees; the last is 0."""
    column = _fraction(point[0], LONGITUDE_MAX, STEPS)
    code = _interleaved((column, _fraction(point[1], 90.0, STEPS)))
    return bytes(_ALPHABET[code >> shift & 31] for shift in range(47, 1, -5)) + b"0"


def _cell(point: Point, steps: int) -> Cell:
    column = _fraction(point[0], LONGITUDE_MAX, steps)
    return column, _fraction(point[1], LATITUDE_MAX, steps)


def _fraction(number: float, limit: float, steps: int) -> int:
    return int((number + limit) / (limit + limit) * (1 << steps))


def _area(cell: Cell, steps: int) -> Bounds:
    column, row, count = cell[0], cell[1], 1 << steps
    wide, high = 2 * LONGITUDE_MAX, 2 * LATITUDE_MAX
    return (
        -LONGITUDE_MAX + column / count * wide,
        -LATITUDE_MAX + row / count * high,
        -LONGITUDE_MAX + (column + 1) / count * wide,
        -LATITUDE_MAX + (row + 1) / count * high,
    )


def _interleaved(cell: Cell) -> int:
    # A number's binary digits, read in base four, have a zero before each.
    return int(f"{cell[0]:b}", 4) << 1 | int(f"{cell[1]:b}", 4)


def _cell_of(code: int) -> Cell:
    digits = f"{code:064b}"
    return int(digits[::2], 2), int(digits[1::2], 2)


# --- distances ------------------------------------------------------------------------------------


def distance(one: Point, other: Point) -> float:
    """Metres between two places along a great circle."""
    across = sin((other[0] * _RADIAN - one[0] * _RADIAN) / 2)
    if abs(across) <= _NEXT_TO_NOTHING:
        return _along_meridian(one[1], other[1])
    south, north = one[1] * _RADIAN, other[1] * _RADIAN
    up = sin((north - south) / 2)
    chord = up * up + cos(south) * cos(north) * across * across
    return 2.0 * EARTH_RADIUS_M * asin(sqrt(chord)) if chord <= 1 else nan


def _along_meridian(one: float, other: float) -> float:
    return EARTH_RADIUS_M * abs(other * _RADIAN - one * _RADIAN)


# --- shapes ---------------------------------------------------------------------------------------


@attrs.frozen
class Circle:
    """All within `radius` units of `unit` metres."""

    center: Point
    radius: float
    unit: float

    def bounds(self) -> Bounds:
        metres = self.unit * self.radius
        return _bounds_around(self.center, metres, metres)

    def reach(self, bounds: Bounds) -> float:
        """How far, in metres, the shape goes from its center."""
        return self.radius * self.unit

    def distance_to(self, point: Point) -> float | None:
        """Metres from the center to a point inside; None for one outside."""
        metres = distance(self.center, point)
        return None if metres > self.radius * self.unit else metres


@attrs.frozen
class Box:
    """All within half of `width` and `height`, in units of `unit` metres, each way."""

    center: Point
    width: float
    height: float
    unit: float

    def bounds(self) -> Bounds:
        return _bounds_around(self.center, self.unit * self.width / 2, self.unit * self.height / 2)

    def reach(self, bounds: Bounds) -> float:
        x, y = self.width / 2, self.height / 2
        return sqrt(x * x + y * y) * self.unit

    def distance_to(self, point: Point) -> float | None:
        if _along_meridian(point[1], self.center[1]) > self.height * self.unit / 2:
            return None
        if distance(point, (self.center[0], point[1])) > self.width * self.unit / 2:
            return None
        return distance(self.center, point)


@attrs.frozen
class Polygon:
    """All between straight lines on the map from corner to corner."""

    corners: Sequence[Point]
    unit: float = 1.0
    center: Point = attrs.field(init=False)

    @center.default
    def _middle(self) -> Point:
        """Where the mean of the corners, as points in space, lies."""
        x = y = z = 0.0
        for longitude, latitude in self.corners:
            around, up = longitude * _RADIAN, latitude * _RADIAN
            x += cos(up) * cos(around)
            y += cos(up) * sin(around)
            z += sin(up)
        return atan2(y, x) / _RADIAN, atan2(z, sqrt(x * x + y * y)) / _RADIAN

    def bounds(self) -> Bounds:
        longitudes, latitudes = zip(*self.corners, strict=True)
        return min(longitudes), min(latitudes), max(longitudes), max(latitudes)

    def reach(self, bounds: Bounds) -> float:
        west, south, east, north = bounds
        ends = ((west, north), (east, north), (west, south), (east, south))
        return max(distance(self.center, end) for end in ends)

    def distance_to(self, point: Point) -> float | None:
        x, y = point
        inside = False
        previous = self.corners[-1]
        for corner in self.corners:
            (ax, ay), (bx, by) = corner, previous
            if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                inside = not inside
            previous = corner
        return distance(self.center, point) if inside else None


Shape = Circle | Box | Polygon


def _bounds_around(center: Point, wide: float, high: float) -> Bounds:
    """The map's rectangle around what goes so many metres each way, as wide as at the end of it
    that is nearer to a pole."""
    longitude, latitude = center
    up = high / EARTH_RADIUS_M / _RADIAN
    widest = latitude - up if latitude < 0 else latitude + up
    across = wide / EARTH_RADIUS_M / _cos(widest * _RADIAN) / _RADIAN
    return longitude - across, latitude - up, longitude + across, latitude + up


def _cos(angle: float) -> float:
    return cos(angle) if isfinite(angle) else nan


# --- the cells of a search ------------------------------------------------------------------------

# The neighbours in the order in which a real server searches them: columns and rows to go.
_AROUND = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def ranges(shape: Shape) -> Iterator[tuple[float, float]]:
    """The ranges of scores where a shape's points are, the upper bounds left out.

    The cell of its center comes first, then those around it that the shape may reach into.
    """
    bounds = shape.bounds()
    longitude, latitude = shape.center
    steps = _steps(shape.reach(bounds), latitude)
    center = longitude, _within(latitude, LATITUDE_MAX)  # a polygon's may lie beyond the map
    cell = _cell(center, steps)
    if steps > 1 and not _covers(cell, steps, bounds):
        steps -= 1
        cell = _cell(center, steps)
    low, last = _scores(cell, steps), None
    yield low
    for direction in _directions(_area(cell, steps), steps, bounds):
        found = _scores(_neighbour(cell, steps, direction), steps)
        if found != last:  # on a coarse map neighbours may be the same
            yield found
        last = found


def _steps(reach: float, latitude: float) -> int:
    """How fine the cells may be if nine of them shall cover what goes so far."""
    if reach == 0:
        return STEPS
    steps = -1
    while reach < _MERCATOR_MAX_M:
        reach *= 2
        steps += 1
    steps -= (abs(latitude) > 66) + (abs(latitude) > 80)  # cells are narrower near the poles
    return max(1, min(steps, STEPS))


def _covers(cell: Cell, steps: int, bounds: Bounds) -> bool:
    """Whether the neighbours of a cell reach as far as that."""
    west, south, east, north = bounds
    ends = [_area(_neighbour(cell, steps, direction), steps) for direction in _AROUND[:4]]
    return not (ends[0][3] < north or ends[1][1] > south or ends[2][2] < east or ends[3][0] > west)


def _directions(area: Bounds, steps: int, bounds: Bounds) -> Iterator[Cell]:
    """Where the neighbours are that bounds may reach into."""
    west, south, east, north = bounds
    shut: set[Cell] = set()
    if steps >= 2:
        if area[1] < south:
            shut |= {(-1, -1), (0, -1), (1, -1)}
        if area[3] > north:
            shut |= {(-1, 1), (0, 1), (1, 1)}
        if area[0] < west:
            shut |= {(-1, -1), (-1, 0), (-1, 1)}
        if area[2] > east:
            shut |= {(1, -1), (1, 0), (1, 1)}
    return (direction for direction in _AROUND if direction not in shut)


def _neighbour(cell: Cell, steps: int, direction: Cell) -> Cell:
    """The map is round: beyond an edge the other one follows."""
    mask = (1 << steps) - 1
    column, row = cell
    if direction[0]:
        column = column + direction[0] & mask
    if direction[1]:
        row = row + direction[1] & mask
    return column, row


def _scores(cell: Cell, steps: int) -> tuple[float, float]:
    code, shift = _interleaved(cell), 2 * (STEPS - steps)
    return float(code << shift), float(code + 1 << shift)
