"""The least driver of a core on real sockets: for tests against real servers' buses."""

import selectors
import socket
import time
from collections.abc import Callable

from cluster import effects as fx
from cluster import message as m
from cluster.core import Core


class SocketDriver:
    """Runs a core in the calling thread, as long as `run_until` is waiting for something."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", core.options.bus_port))
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.sockets: dict[int, socket.socket] = {}
        self.splitters: dict[int, m.Splitter] = {}
        self.effects: list[fx.Effect] = []
        self.next_tick = 0
        self.carry_out(core.start(self.now()))

    @staticmethod
    def now() -> int:
        return time.time_ns() // 1_000_000

    @property
    def log(self) -> str:
        return "\n".join(e.text for e in self.effects if isinstance(e, fx.Log))

    def ask(self, request: fx.Request) -> object:
        result, effects = self.core.ask(request, self.now())
        self.carry_out(effects)
        return result

    def carry_out(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case fx.Connect():
                    self._connect(effect)
                case fx.Send() if effect.link in self.sockets:
                    self.sockets[effect.link].sendall(m.encode(effect.message))
                case fx.Close() if effect.link in self.sockets:
                    self._drop(effect.link)

    def _connect(self, effect: fx.Connect) -> None:
        try:
            sock = socket.create_connection((effect.ip, effect.port), timeout=1)
        except ConnectionRefusedError:
            self.carry_out(self.core.refused(effect.link, self.now()))
            return
        except OSError:
            self.carry_out(self.core.link_down(effect.link, self.now()))
            return
        self._add(effect.link, sock)
        self.carry_out(self.core.link_up(effect.link, self.now()))

    def _add(self, link: int, sock: socket.socket) -> None:
        self.sockets[link] = sock
        self.splitters[link] = m.Splitter()
        self.selector.register(sock, selectors.EVENT_READ, link)

    def _drop(self, link: int) -> None:
        sock = self.sockets.pop(link)
        self.selector.unregister(sock)
        sock.close()

    def _accept(self) -> None:
        sock, peer = self.listener.accept()
        link = self.core.accept(peer[0], sock.getsockname()[0], self.now())
        self._add(link, sock)

    def _read(self, link: int) -> None:
        try:
            data = self.sockets[link].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(link)
            self.carry_out(self.core.link_down(link, self.now()))
            return
        splitter = self.splitters[link]
        splitter.feed(data)
        while (message := splitter.next_message()) is not None:
            self.carry_out(self.core.receive(link, message, self.now()))

    def step(self) -> None:
        for key, _ in self.selector.select(0.01):
            if key.fileobj is self.listener:
                self._accept()
            elif key.data in self.sockets:
                self._read(key.data)
        if self.now() >= self.next_tick:
            self.next_tick = self.now() + 100
            self.carry_out(self.core.tick(self.now()))

    def run_until(self, condition: Callable[[], object], what: str, timeout: float = 10) -> None:
        deadline = time.monotonic() + timeout
        next_look = 0.0
        while True:
            if time.monotonic() >= next_look:
                if condition():
                    return
                next_look = time.monotonic() + 0.05
            assert time.monotonic() < deadline, f"timed out: {what}\n{self.log}"
            self.step()

    def close(self) -> None:
        for link in list(self.sockets):
            self._drop(link)
        self.listener.close()
        self.selector.close()
