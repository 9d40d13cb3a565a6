"""A node becomes a process: listeners, signals, time, and an orderly end."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from node import process
from node.acl.acl import DEFAULT, AclError
from node.children import Children
from node.clock import SystemClock
from node.config import Config, ConfigError
from node.home import Home
from node.host import SystemHost
from node.node import VERSION, Node
from node.persistence.aof.writer import NotDurable
from node.persistence.loading import LoadError
from node.replication.links import Links
from node.replication.stream import PropagationError
from node.shutdown import Wish
from node.turns import Turns
from node.watchdog import Watchdog

_log = logging.getLogger(__name__)

PROTECTED = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no "
    b"password is set for the default user. In this mode connections are only accepted from the "
    b"loopback interface. If you want to connect from external computers to Redis you may adopt "
    b"one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG "
    b"SET protected-mode no' from the loopback interface by connecting to Redis from the same "
    b"host the server is running, however MAKE SURE Redis is not publicly accessible from "
    b"internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively "
    b"you can just disable the protected mode by editing the Redis configuration file, and "
    b"setting the protected mode option to 'no', and then restarting the server. 3) If you "
    b"started the server manually just for testing, restart it with the '--protected-mode no' "
    b"option. 4) Set up an authentication password for the default user. NOTE: You only need to "
    b"do one of the above things in order for the server to start accepting connections from the "
    b"outside.\r\n"
)
TOO_MANY_CLIENTS = b"-ERR max number of clients reached\r\n"
ACCEPTS_PER_WAKEUP = 100
LOADING_MS = 5  # at a stretch, while clients are told to wait

Task = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Server:
    """Everything of a process that serves one node.

    tasks: what else has to run beside the clients: replication links, a cluster's bus.
    before_exit: called once no client is served any more. pumps: rounds of other drivers, for
    when a script keeps the node busy; while_loading: and when its data are being loaded.
    """

    node: Node
    turns: Turns = attrs.field(init=False)
    links: Links = attrs.field(init=False)
    children: Children = attrs.field(init=False)
    tasks: list[Task] = attrs.field(factory=list)
    before_exit: list[Callable[[], None]] = attrs.field(factory=list)
    pumps: list[Callable[[], object]] = attrs.field(factory=list)
    while_loading: list[Callable[[], object]] = attrs.field(factory=list)
    exit_code: int = 0
    _listeners: list[socket.socket] = attrs.field(factory=list)
    _stopping: trio.Event = attrs.field(factory=trio.Event)
    _alarm: trio.Event = attrs.field(factory=trio.Event)
    _relisten: trio.Event = attrs.field(factory=trio.Event)
    _home: Home = attrs.field(factory=Home)

    def __attrs_post_init__(self) -> None:
        self.turns = Turns(self.node)
        self.links = Links(self.node, self.turns)
        self.children = Children(self.node)
        self.node.saves.saves_by_itself = True
        self.node.on_shutdown = self.stop
        self.node.on_deadline = self._ring
        self.node.on_busy = self._serve_others
        self.node.config.on_change("port", self._change_port)
        self.node.config.on_change("bind", self._change_port)
        self.node.config.on_change("loglevel", process.set_log_level)

    # --- listening -------------------------------------------------------------------------------

    def listen(self) -> None:
        """Open the listening sockets; raises process.Exit when an address cannot be had."""
        config = self.node.config
        try:
            self._listeners = open_tcp(config) if config.port else []
        except OSError as error:
            text = f"Failed listening on port {config.port} (tcp), aborting.\n{error}"
            raise process.Exit(1, text) from None
        if config.unixsocket:
            self._listeners.append(open_unix(config))

    def _change_port(self, config: Config) -> None:
        """CONFIG SET port or bind: the new sockets must open before the old ones close."""
        old = [sock for sock in self._listeners if sock.family != socket.AF_UNIX]
        others = [sock for sock in self._listeners if sock.family == socket.AF_UNIX]
        for sock in old:
            sock.close()
        try:
            self._listeners = others + (open_tcp(config) if config.port else [])
        except OSError:
            raise ConfigError("Unable to listen on this port. Check server logs.") from None
        self._relisten.set()

    async def _accept_all(self) -> None:
        """Accept on every listening socket, and start over when they are others."""
        while True:
            self._relisten = trio.Event()
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept_on, listener)
                await self._relisten.wait()
                nursery.cancel_scope.cancel()

    async def _accept_on(self, listener: socket.socket) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(listener)
                self._accept_waiting(listener)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError) as error:
                if listener.fileno() < 0:
                    return
                _log.warning("Accepting client connection: %s", error)
                await trio.sleep(0.05)

    def _accept_waiting(self, listener: socket.socket) -> None:
        """Accept those who wait to be; raises OSError, if only because there is nobody."""
        for _ in range(ACCEPTS_PER_WAKEUP):
            sock, address = listener.accept()
            self._welcome(sock, address)

    def _welcome(self, sock: socket.socket, address: object) -> None:
        """Serve a new client, or say why not."""
        config = self.node.config
        sock.setblocking(False)
        remote, local = _name_of(address, config), _name_of(sock.getsockname(), config)
        refusal = self._refusal(remote)
        if refusal is not None:
            self.node.observe.connections_rejected += 1
            with contextlib.suppress(OSError):
                sock.send(refusal)
            sock.close()
            return
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock, config.tcp_keepalive)
        self.turns.add(sock, remote, local)

    def _refusal(self, remote: bytes) -> bytes | None:
        config = self.node.config
        if len(self.node.sessions) >= config.maxclients:
            return TOO_MANY_CLIENTS
        local = remote.startswith((b"127.", b"[::1]", b"/"))
        if config.protected_mode and self.node.acl.users[DEFAULT].no_password and not local:
            return PROTECTED
        return None

    def _serve_others(self) -> None:
        """Amid a script that takes long: everybody else gets a turn."""
        run = self.node.scripting.run
        assert run is not None
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                self._accept_waiting(listener)
        self.turns.pump_aside(run.session)
        for pump in self.pumps:
            pump()

    # --- time ------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Tick 1000 / hz times a second, and whenever the node has something due."""
        node = self.node
        while True:
            self._alarm = trio.Event()
            wait_ms = 1000 / node.config.hz
            due_ms = node.next_deadline_ms()
            if due_ms is not None:
                wait_ms = min(wait_ms, max(due_ms - node.clock.monotonic_ms(), 0))
            with trio.move_on_after(wait_ms / 1000):
                await self._alarm.wait()
            node.tick()

    def _ring(self) -> None:
        self._home.call(self._alarm.set)

    # --- the whole -------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve until told to stop."""
        self._home.enter()
        watchdog = Watchdog(self.node)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals)
            await nursery.start(self.children.serve)
            while_loading: list[Task] = [self._accept_all, self.turns.serve, self._keep_time]
            for task in while_loading:
                nursery.start_soon(task)
            if await self._load():
                for task in (self.links.serve, *self.tasks):
                    nursery.start_soon(task)
                self._say_ready()
                collect_little()
                await self._stopping.wait()
                self.turns.pump()  # last replies
            nursery.cancel_scope.cancel()
        watchdog.end()
        self._close()

    async def _load(self) -> bool:
        """Load the node's file; clients that come meanwhile are told so. False if the process is
        to end: the file is broken, or somebody wants it to."""
        node = self.node
        gc.disable()  # all that is made now stays
        try:
            node.begin_turn()
            since = trio.current_time()
            for _ in node.load():
                if self._stopping.is_set():
                    return False
                if trio.current_time() - since >= LOADING_MS / 1000:
                    node.end_turn()
                    for pump in self.while_loading:
                        pump()
                    await trio.lowlevel.checkpoint()
                    node.begin_turn()
                    since = trio.current_time()
            node.end_turn()
        except LoadError as error:
            _log.error("%s", error)
            self.stop(1)
            return False
        finally:
            gc.enable()
        return not self._stopping.is_set()

    def _say_ready(self) -> None:
        if self.node.config.port:
            _log.info("Ready to accept connections tcp")
        if self.node.config.unixsocket:
            _log.info("The server is now ready to accept connections at unix")
            _log.info("Ready to accept connections unix")

    def stop(self, code: int = 0) -> None:
        """End the process, in order."""
        self.exit_code = code
        self._home.call(self._stopping.set)

    async def _watch_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                self._signalled(signal.Signals(number))

    def _signalled(self, number: signal.Signals) -> None:
        node, config = self.node, self.node.config
        if number == signal.SIGINT and node.shutdown.wish is not None:
            _log.warning("You insist... exiting now.")
            self.stop(1)
            return
        _log.warning("Received %s scheduling shutdown...", number.name)
        by_signal = {
            signal.SIGINT: config.shutdown_on_sigint,
            signal.SIGTERM: config.shutdown_on_sigterm,
        }
        words = by_signal[number]
        save = True if "save" in words else False if "nosave" in words else None
        node.begin_turn()
        flags = {name: name in words for name in ("now", "force", "safe", "failover")}
        node.shutdown.begin(Wish(save, **flags))
        node.end_turn()

    def _close(self) -> None:
        for call in self.before_exit:
            call()
        for listener in self._listeners:
            listener.close()
        if self.node.config.unixsocket:
            with contextlib.suppress(OSError):
                os.unlink(self.node.config.unixsocket)
        self.turns.close()
        _log.warning("Redis is now ready to exit, bye bye...")


def collect_little() -> None:
    """Take what lives as long as the process out of the garbage collector's rounds.

    Requests and replies are freed by their reference counts; what is left to collect is rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def open_tcp(config: Config, port: int = 0) -> list[socket.socket]:
    """Listening sockets for every address of `bind`, at `port` or the directive's; raises OSError
    naming the address."""
    port = port or config.port
    sockets: list[socket.socket] = []
    try:
        for address in config.bind:
            optional, address = address.startswith("-"), address.removeprefix("-")
            try:
                sockets.append(_listen_on(address, port, config.tcp_backlog))
            except OSError as error:
                if optional or (address == "::*" and error.errno == 97):
                    continue
                raise OSError(
                    error.errno,
                    f"Could not create server TCP listening socket {address}:{port}: "
                    f"bind: {error.strerror}",
                ) from None
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen_on(address: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    host = {"*": "0.0.0.0", "::*": "::"}.get(address, address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def open_unix(config: Config) -> socket.socket:
    """The listening socket at the path that `unixsocket` names."""
    with contextlib.suppress(OSError):
        os.unlink(config.unixsocket)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(config.unixsocket)
        if config.unixsocketperm:
            os.chmod(config.unixsocket, config.unixsocketperm)
        sock.listen(config.tcp_backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise process.Exit(1, f"Failed opening Unix socket: bind: {error}") from None
    return sock


def _name_of(address: object, config: Config) -> bytes:
    """An address as CLIENT LIST shows it: ip:port, or path:0."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
    return os.fsencode(config.unixsocket) + b":0"


def keep_alive(sock: socket.socket, seconds: int) -> None:
    """Notice after about so many seconds that the other machine is gone; 0: never."""
    if not seconds:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(seconds // 3, 1))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def begin_users(node: Node) -> None:
    """Give a node the users that its configuration or ACL file names; raises Exit."""
    try:
        node.acl.begin()
    except AclError as error:
        raise process.Exit(1, str(error)) from None


def lone_server(config: Config) -> Server:
    """A node that is in no cluster."""
    return Server(Node(config, SystemClock(), host=SystemHost()))


def run_server(argv: list[str], build: Callable[[Config], Server] = lone_server) -> int:
    """A whole server process: from the command line to the exit code. Call before any trio.run."""
    try:
        config = process.read_configuration(argv)
        if config.daemonize:
            process.become_daemon()
        process.open_log(config)
        server = build(config)
        begin_users(server.node)
        server.listen()
    except process.Exit as leaving:
        if leaving.text:
            stream = sys.stderr if leaving.code else sys.stdout
            stream.write(leaving.text.rstrip("\n") + "\n")
            _log_last_word(leaving)
        return leaving.code
    pid_file: Path | None = process.write_pid_file(config)
    _log.info("Redis version=%s, bits=64, pid=%d, just started", VERSION, os.getpid())
    if config.always_show_logo:
        _log.info("Port: %d PID: %d", config.port, os.getpid())
    _log.info("Server initialized")
    try:
        trio.run(server.serve)
    except* (NotDurable, PropagationError):
        server.exit_code = 1  # the log has said why; whom anything was promised gets no reply
    finally:
        if pid_file is not None:
            with contextlib.suppress(OSError):
                pid_file.unlink()
    return server.exit_code


def _log_last_word(leaving: process.Exit) -> None:
    if leaving.code and logging.getLogger().handlers:
        _log.warning("%s", leaving.text)
