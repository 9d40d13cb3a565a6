"""One redis-py cluster client at work on keys of its own; see live.py, which starts it.

Usage: live_client.py PORT NAME TAGS PAUSE_MS. It says `ready` when all its keys are there, goes on
until its standard input ends, and prints what it saw as one JSON object:

    requests   [start in ms since 1970, duration in ms] of each
    errors     how often the application was shown an error, by class
    lost, stale   texts: what was acknowledged and wasn't found, or was found at an older value
    keys       key -> [number acknowledged last, number sent last]

The values are `NAME:number`, with numbers that rise. tests/clients/ioredis_live.js does the same.
"""

import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from redis.cluster import RedisCluster


@attrs.define(eq=False)
class Ledger:
    """What a client was promised, and what it got."""

    name: str
    requests: list[tuple[float, float]] = attrs.field(factory=list)
    errors: Counter[str] = attrs.field(factory=Counter)
    lost: list[str] = attrs.field(factory=list)
    stale: list[str] = attrs.field(factory=list)
    keys: dict[str, list[int]] = attrs.field(factory=dict)
    _count: int = 0

    def number(self, *keys: str) -> int:
        """The next number, about to be sent to these keys."""
        self._count += 1
        for key in keys:
            self.keys.setdefault(key, [0, 0])[1] = self._count
        return self._count

    def acknowledged(self, number: int, *keys: str) -> None:
        for key in keys:
            self.keys[key][0] = number

    def found(self, key: str, value: str | None) -> None:
        """Judge what was read."""
        acknowledged, sent = self.keys[key]
        if value is None:
            self.lost.append(f"{key}: {acknowledged} was acknowledged, nothing is there")
            return
        name, _, number = value.rpartition(":")
        if name != self.name or int(number) > sent:
            self.lost.append(f"{key}: {acknowledged} was acknowledged, {value} is there")
        elif int(number) < acknowledged:
            self.stale.append(f"{key}: {acknowledged} was acknowledged, {number} is there")
        else:
            self.keys[key][0] = int(number)

    def timed(self, action: Callable[[], Any]) -> Any:
        """What a request gives; None if the application was shown an error."""
        began, since = time.time(), time.perf_counter()
        try:
            return action()
        except Exception as error:
            self.errors[kind_of(error)] += 1
            return None
        finally:
            took = 1000 * (time.perf_counter() - since)
            self.requests.append((round(1000 * began, 2), round(took, 2)))


def kind_of(error: Exception) -> str:
    """The class of an error, and its words without what differs each time."""
    return re.sub(r"[\d.:]*\d", "N", f"{type(error).__name__}: {error}")[:100]


@attrs.define(eq=False)
class Application:
    """Writes single keys and pairs of keys that share a slot, and reads them back."""

    cluster: RedisCluster
    ledger: Ledger
    tags: list[str]

    def prepare(self) -> None:
        for tag in self.tags:
            self.write_pair(tag)

    def act(self) -> None:
        """Something at random."""
        one = random.random() < 0.5
        (self.write_one if one else self.write_pair)(random.choice(self.tags))
        (self.read_one if one else self.read_pair)(random.choice(self.tags))

    def write_one(self, tag: str) -> None:
        ledger, key = self.ledger, f"{{{tag}}}:{random.choice('ab')}"
        number = ledger.number(key)
        if ledger.timed(lambda: self.cluster.set(key, f"{ledger.name}:{number}")):
            ledger.acknowledged(number, key)
            self.read(key)

    def write_pair(self, tag: str) -> None:
        ledger, keys = self.ledger, pair(tag)
        number = ledger.number(*keys)
        value = f"{ledger.name}:{number}"
        if ledger.timed(lambda: self.cluster.mset(dict.fromkeys(keys, value))):
            ledger.acknowledged(number, *keys)
            self.read_pair(tag)

    def read_one(self, tag: str) -> None:
        self.read(f"{{{tag}}}:{random.choice('ab')}")

    def read(self, key: str) -> None:
        found = self.ledger.timed(lambda: [self.cluster.get(key)])
        if found is not None:
            self.ledger.found(key, found[0])

    def read_pair(self, tag: str) -> None:
        keys = pair(tag)
        found = self.ledger.timed(lambda: self.cluster.mget(keys))
        if found is not None:
            for key, value in zip(keys, found, strict=True):
                self.ledger.found(key, value)


def pair(tag: str) -> list[str]:
    return [f"{{{tag}}}:a", f"{{{tag}}}:b"]


def main() -> None:
    port, name, tags, pause_ms = sys.argv[1:]
    cluster = RedisCluster(host="127.0.0.1", port=int(port), decode_responses=True)
    ledger = Ledger(name)
    application = Application(cluster, ledger, [f"{name}:{i}" for i in range(int(tags))])
    application.prepare()
    print("ready", flush=True)
    stops = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stops.set()), daemon=True).start()
    while not stops.wait(float(pause_ms) / 1000):
        application.act()
    print(json.dumps(attrs.asdict(ledger, filter=lambda field, _: field.name[0] != "_")))


if __name__ == "__main__":
    main()
