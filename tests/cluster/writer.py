"""An application at work on a cluster, with a stock client; it knows what was told OK."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from redis.cluster import ClusterNode, RedisCluster

from tests.cluster.company import PATIENCE, Company
from tests.conftest import wait_until


@attrs.define(eq=False)
class Writer:
    """Sets key after key, each to a value of its own. errors: what the application was shown."""

    client: RedisCluster
    written: dict[str, str] = attrs.field(factory=dict)
    errors: list[Exception] = attrs.field(factory=list)
    _count: int = 0
    _stops: threading.Event = attrs.field(factory=threading.Event)

    def work(self) -> None:
        while not self._stops.is_set():
            key, value = f"key:{self._count % 500}", f"value:{self._count}"
            self._count += 1
            try:
                if self.client.set(key, value):
                    self.written[key] = value
            except Exception as error:
                self.errors.append(error)
            self._stops.wait(0.001)

    def wait_more(self, count: int = 50) -> None:
        """Until it has written some more."""
        target = self._count + count
        wait_until(lambda: self._count >= target, "the writer goes on", PATIENCE)

    def lost(self) -> dict[str, tuple[str, object]]:
        """What was told OK and is not there: key -> (written, found)."""
        found = {key: self.client.get(key) for key in self.written}
        return {
            key: (value, found[key])
            for key, value in self.written.items()
            if found[key] != value.encode()
        }

    def stop(self) -> None:
        self._stops.set()


@contextmanager
def writing(nodes: Company) -> Iterator[Writer]:
    """A writer at work as long as the block lasts."""
    places = [ClusterNode("127.0.0.1", server.port) for server in nodes.servers]
    client = RedisCluster(startup_nodes=places)
    writer = Writer(client)
    thread = threading.Thread(target=writer.work)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop()
        thread.join()
        client.close()
