"""A forked child that does one piece of work on the data as they are now, and ends.

In the child nothing of the server goes on: no trio, no logging, no lock is touched, signals have
their default effect, every descriptor but the ones it needs is closed (so that it keeps no
client's connection and no port), and it ends by os._exit. If the work raises, the traceback goes
to the server's log before that.
"""

import contextlib
import gc
import os
import signal
import traceback
from collections.abc import Callable, Collection

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FAILED = 1
_log_fd = 2


def log_to(fd: int) -> None:
    """Where children say why they have failed, from here on: a file's descriptor."""
    global _log_fd
    _log_fd = fd


def fork(work: Callable[[], int], keep: Collection[int]) -> int:
    """Run `work` in a child, whose exit code is what it returns, or 1 if it raises.

    keep: descriptors that it may use beside the standard three. Returns the child's pid; the
    caller reaps it. OSError if there can be no further process.
    """
    # No handler of the server must run in the child, not even before it can reset them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(work, keep, blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def _be_child(work: Callable[[], int], keep: Collection[int], mask: set) -> None:
    code = _FAILED
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _close_all_but({0, 1, 2, _log_fd, *keep})
        code = work()
    except BaseException:
        words = f"{os.getpid()}:C # Work in the background has failed\n{traceback.format_exc()}"
        with contextlib.suppress(OSError):
            os.write(_log_fd, words.encode(errors="backslashreplace"))
    finally:
        os._exit(code)


def _close_all_but(keep: Collection[int]) -> None:
    first = 0
    for fd in sorted(keep):
        if fd > first:  # an empty range from 0 would close them all
            os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def reap(pid: int, kill: bool = False) -> int:
    """Wait for a child that has ended or is about to, or `kill` it first; its exit code."""
    if kill:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
