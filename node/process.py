"""From a command line to a process that may serve: configuration, log, daemon, pid file.

All of this happens before trio runs, as a daemon is made by fork.
"""

import contextlib
import glob
import logging
import os
import sys
from datetime import datetime
from pathlib import Path

from node import child
from node.config import Config, ConfigError
from node.config.arguments import USAGE, UsageError, parse_arguments, version_line

_MARKS = {logging.DEBUG: ".", logging.INFO: "*", logging.WARNING: "#", logging.ERROR: "#"}
_LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL + 1,
}


class Exit(Exception):
    """The process ends here, with this code and a last word."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def read_configuration(argv: list[str]) -> Config:
    """The configuration that a command line asks for; raises Exit for --version and mistakes."""
    try:
        arguments = parse_arguments(argv)
    except UsageError as error:
        raise Exit(1, str(error)) from None
    if arguments.asks == "version":
        raise Exit(0, version_line())
    if arguments.asks == "help":
        raise Exit(0, USAGE)
    path = os.path.abspath(arguments.file) if arguments.file else ""
    config = Config(_enter_directory)
    try:
        stdin = sys.stdin.read() if arguments.stdin else ""
        file = _read(arguments.file) if arguments.file else ""
        config.load(arguments.text(file, stdin), _read, glob.glob)
    except OSError as error:
        raise Exit(1, f"Fatal error, can't open config file '{arguments.file}': {error}") from None
    except ConfigError as error:
        raise Exit(1, str(error)) from None
    config.file = path  # from before `dir` was entered
    return config


def _read(path: str) -> str:
    return Path(path).read_text("utf-8", "surrogateescape")


def _enter_directory(path: str) -> str:
    os.chdir(path)
    return os.getcwd()


def become_daemon() -> None:
    """Go on in the background, in a session of its own."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


class RedisFormatter(logging.Formatter):
    """Log lines as redis-server writes them: pid:role time mark text."""

    role = "M"

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created)
        time = f"{when:%d %b %Y %H:%M:%S}.{when.microsecond // 1000:03d}"
        mark = _MARKS.get(record.levelno, "#")
        line = f"{os.getpid()}:{self.role} {time} {mark} {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def open_log(config: Config) -> RedisFormatter:
    """Send the program's log where `logfile` says; returns the formatter, which knows the role."""
    handler: logging.StreamHandler
    try:
        handler = logging.FileHandler(config.logfile) if config.logfile else logging.StreamHandler()
    except OSError as error:
        raise Exit(1, f"Can't open the log file: {error}") from None
    if not config.logfile:
        handler = logging.StreamHandler(sys.stdout)
    assert handler.stream is not None
    child.log_to(handler.stream.fileno())
    formatter = RedisFormatter()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[config.loglevel])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return formatter


def set_log_level(config: Config) -> None:
    """CONFIG SET loglevel."""
    logging.getLogger().setLevel(_LEVELS[config.loglevel])


def write_pid_file(config: Config) -> Path | None:
    """Note the process id where `pidfile` says, or where a daemon's is expected."""
    path = config.pidfile or ("/var/run/redis.pid" if config.daemonize else "")
    if not path:
        return None
    with contextlib.suppress(OSError):
        Path(path).write_text(f"{os.getpid()}\n")
        return Path(path)
    logging.getLogger(__name__).warning("Failed to write PID file: %s", path)
    return None
