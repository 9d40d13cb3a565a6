"""The geo commands against a real server, to the last digit."""

import random

import pytest
from differential import Pair, script
from witness import Witness

from node.data.geo import LATITUDE_MAX, Polygon

UNITS = ("m", "km", "FT", "mi")
SICILY = "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"


def test_members(pair: Pair) -> None:
    pair.lines(
        SICILY,
        *script("""
            GEOADD g 13.5 38 Palermo; GEOADD g NX 1 1 Palermo 2 2 new; GEOADD g XX CH 3 3 new 4 4 y
            GEOADD g CH 3 3 new; GEOADD g nx xx 1 1 a; GEOADD g 1 1; GEOADD g 1 1 a 2; GEOADD g CH
            GEOADD g CH CH CH; GEOADD g 181 1 a; GEOADD g 1 85.06 a; GEOADD g x 1 a
            GEOADD g 1 nan a
            GEOADD g 180 85.05112878 ne -180 -85.05112878 sw 0 0 o -0 -0 p; ZRANGE g 0 -1 WITHSCORES
            GEOPOS g Palermo none ne sw o p; GEOPOS none a b; GEOPOS g; GEOPOS none; GEOPOS
            GEOHASH g Palermo none ne sw o; GEOHASH none a; GEOHASH g; GEOHASH none
            GEOADD g 1 1 a 1 x b
            GEODIST g Palermo Catania; GEODIST g Palermo Catania mi; GEODIST g ne sw; GEODIST g o o
            GEODIST g Palermo none; GEODIST none a b; GEODIST g a b x; GEODIST g a b km y
            SET s x; GEOADD s 1 1 a; GEOPOS s a; GEOHASH s a; GEODIST s a b; GEODIST s a b x
            GEODIST g Palermo Catania FT; ZSCORE g ne; GEODIST g ne o km; GEOADD g ch 1.5e1 0x10 h
        """),
    )


def test_scores_that_are_no_places(pair: Pair) -> None:
    for score in (-1, -5.5, "inf", "-inf", 1e300, -1e300, 2**53, 2**60, 2**63, 2**64, 0.5, 1e16):
        pair.same("ZADD", "g", score, f"m{score}")
    members = pair.ours.ask("ZRANGE", "g", 0, -1)
    pair.same("GEOPOS", "g", *members)
    pair.same("GEOHASH", "g", *members)
    world = "FROMLONLAT 0 0 BYRADIUS 30000 km"
    pair.same("GEOSEARCH", "g", *f"{world} WITHDIST WITHCOORD".split())


def test_search_options(pair: Pair) -> None:
    pair.lines(SICILY, "GEOADD g 12.758489 38.788135 edge1 17.241510 38.788135 edge2", "SET s x")
    area = "FROMLONLAT 15 37 BYRADIUS 200 km"
    for options in (
        *(
            "",
            "ASC",
            "DESC",
            "COUNT 1",
            "COUNT 1 ANY",
            "COUNT 2 DESC",
            "ANY",
            "COUNT 0",
            "COUNT -1",
        ),
        *("COUNT x", "COUNT", "WITHDIST", "WITHCOORD WITHHASH", "WITHHASH WITHDIST ASC", "FOO"),
        *("BYBOX 1 1 km", "BYRADIUS 20 km", "FROMMEMBER Palermo", "FROMLONLAT 1 1", "STOREDIST"),
        *("STORE x", "STOREDIST x", "BYPOLYGON 3 1 1 2 2 3 1", "ANY COUNT 1 ASC WITHDIST"),
    ):
        for key in ("g", "none", "s"):
            pair.same("GEOSEARCH", key, *area.split(), *options.split())
            pair.same("GEOSEARCHSTORE", "out", key, *area.split(), *options.split())
            for name in ("GEORADIUS", "GEORADIUS_RO"):
                pair.same(name, key, 15, 37, 200, "km", *options.split())
            for name in ("GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"):
                pair.same(name, key, "Palermo", 200, "km", *options.split())
            pair.same("ZRANGE", "out", 0, -1, "WITHSCORES")
            pair.same("ZRANGE", "x", 0, -1, "WITHSCORES")


def test_search_shapes(pair: Pair) -> None:
    pair.lines(SICILY)
    for shape in (
        *("FROMMEMBER Palermo BYBOX 400 400 km", "FROMMEMBER none BYRADIUS 1 km", "BYRADIUS 1 km"),
        *("BYBOX 400 400 km FROMLONLAT 15 37", "FROMLONLAT 15 37", "FROMLONLAT 15 BYRADIUS 1 m"),
        *("FROMLONLAT 15 95 BYRADIUS 1 m", "FROMLONLAT x 1 BYRADIUS 1 m", "BYRADIUS -1 m ASC ASC"),
        *("BYRADIUS x m ASC ASC", "BYRADIUS 1 x ASC ASC", "BYBOX 1 -1 m ASC", "BYBOX 1 x m ASC"),
        *("BYBOX x 1 m ASC ASC", "BYBOX 1 1 parsec ASC", "BYRADIUS 1", "BYBOX 1 1 ASC ASC"),
        *("BYPOLYGON 4 13 37 16 37 16 39 13 39", "BYPOLYGON 3 13 37 16 37 14.5 39 WITHDIST DESC"),
        *("BYPOLYGON 2 13 37 16 37", "BYPOLYGON 4 13 37 16 37 16 39", "BYPOLYGON x 1 2 3 4"),
        *(
            "BYPOLYGON 3 13 37 16 37 16 99",
            "BYPOLYGON 3 13 37 16 37 16 y",
            "BYPOLYGON 9999999999 1 2",
        ),
        *("BYPOLYGON 3 1 1 2 2 3 1 FROMMEMBER Palermo", "BYPOLYGON 3 1 1 2 2 3 1 BYRADIUS 1 m"),
        *("FROMMEMBER Palermo BYPOLYGON 3 1 1 2 2 3 1", "BYPOLYGON 3 1 1 2 2 3 1 FROMLONLAT 1 1"),
        *(
            "FROMLONLAT 1 1 BYPOLYGON 3 13 37 16 37 14.5 39",
            "BYPOLYGON 3 13 37 16 37 14 39 COUNT 1",
        ),
        *("FROMMEMBER Palermo FROMMEMBER Catania BYRADIUS 1 km", "BYRADIUS 1 m BYRADIUS 900 km"),
        *("FROMLONLAT 15 37 BYRADIUS inf km", "FROMLONLAT 15 37 BYRADIUS 0 m", "ASC DESC ASC ASC"),
    ):
        pair.same("GEOSEARCH", "g", *shape.split())
        pair.same("GEOSEARCH", "none", *shape.split())
        pair.same("GEOSEARCHSTORE", "out", "g", *shape.split())
    pair.lines("GEORADIUS g 15 37 x km", "GEORADIUS g 15 99 1 km", "GEORADIUS g 15 37 -1 km")
    pair.lines("GEORADIUS none 15 99 1 km", "GEORADIUSBYMEMBER none a -1 x", "GEORADIUS g 1 1 1 x")
    pair.lines("GEORADIUSBYMEMBER g none -1 x", "GEORADIUSBYMEMBER g Palermo -1 km")


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0, 180.0])
def test_random_searches(resp3_pair: Pair, spread: float) -> None:
    """Near each other, around the world, at its edges and near the poles: in the same order."""
    pair, chosen = resp3_pair, random.Random(spread)

    def place() -> tuple[float, float]:
        if chosen.random() < 0.1:
            return chosen.choice((-180, 180, 0)), chosen.choice((-85.05112878, 85.05112878, 84, 0))
        middle = chosen.choice(((2.0, 48.0), (179.9, -17.0), (-179.99, 66.5), (20.0, 82.0)))
        x, y = (at + chosen.uniform(-spread, spread) for at in middle)
        return (x + 180) % 360 - 180, max(-85.0, min(y, 85.0))

    for number in range(300):
        pair.same("GEOADD", "g", *place(), f"m{number}")
    for number in range(250):
        center = chosen.choice((["FROMMEMBER", f"m{number}"], ["FROMLONLAT", *place()]))
        size = [spread * 10 ** chosen.uniform(0, 5.5) for _ in range(2)]
        shape = ["BYRADIUS", size[0]] if chosen.random() < 0.5 else ["BYBOX", *size]
        shape = [*center, *shape, chosen.choice(UNITS)]
        if chosen.random() < 0.3:
            corners = [place() for _ in range(chosen.randint(3, 6))]
            if abs(Polygon(corners).center[1]) > LATITUDE_MAX:
                continue  # a real server searches no cells that are defined then
            shape = [
                "BYPOLYGON",
                len(corners),
                *(number for corner in corners for number in corner),
            ]
        options = chosen.choice(("", "ASC", "DESC", "COUNT 5 ANY", "COUNT 300", "COUNT 7 ANY DESC"))
        shown = "WITHDIST WITHCOORD WITHHASH"
        pair.same("GEOSEARCH", "g", *shape, *options.split(), *shown.split())
        pair.same("GEODIST", "g", f"m{number}", f"m{number + 1}", chosen.choice(UNITS))
    pair.same("GEOHASH", "g", *(f"m{number}" for number in range(300)))


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        SICILY,
        *script("""
            GEOADD g 13.361389 38.115556 Palermo; GEOADD g XX CH 1 1 Palermo 2 2 none; GEOPOS none x
            GEOSEARCHSTORE out g FROMLONLAT 15 37 BYRADIUS 400 km
            GEOSEARCHSTORE out g FROMLONLAT 15 37 BYRADIUS 400 km STOREDIST
            GEORADIUS g 15 37 400 km STORE out; GEORADIUS g 15 37 400 km STOREDIST out2
            GEORADIUS g 15 37 400 km; GEORADIUSBYMEMBER g Catania 1 m STORE out2
            GEOSEARCHSTORE out g FROMLONLAT 50 37 BYRADIUS 1 m
            GEOSEARCHSTORE out g FROMLONLAT 50 37 BYRADIUS 1 m; GEORADIUS none 1 1 1 m STORE out2
            GEOSEARCHSTORE g none FROMLONLAT 50 37 BYRADIUS 1 m
        """),
    )


def test_polygons_are_logged_in_words_that_older_replicas_know(resp2_pair: Pair) -> None:
    ours = resp2_pair.ours
    resp2_pair.lines(SICILY, "SET out x")
    ours.take_log()
    inside, outside = "BYPOLYGON 3 15 37 16 37 15.1 38", "BYPOLYGON 3 1 1 2 1 2 2"
    resp2_pair.lines(f"GEOSEARCHSTORE out g {inside}")
    words = [b"ZADD", b"out", b"3479447370796909", b"Catania"]
    assert ours.take_log() == [[b"MULTI"], [b"DEL", b"out"], words, [b"EXEC"]]
    resp2_pair.lines(f"GEOSEARCHSTORE out g {outside}", f"GEOSEARCHSTORE out g {outside}")
    assert ours.take_log() == [[b"DEL", b"out"]]
