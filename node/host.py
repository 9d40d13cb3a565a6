"""What a node can learn of the machine and the process it runs in, and its twin that knows none."""

import ctypes
import gc
import os
import platform
import resource
import secrets
import sys
from typing import Protocol

import attrs


@attrs.frozen
class CpuTime:
    """Seconds spent by the process, and by its children that have ended."""

    system: float = 0.0
    user: float = 0.0
    children_system: float = 0.0
    children_user: float = 0.0


class Host(Protocol):
    """process_id, executable, system: as INFO shows them. total_memory: bytes."""

    process_id: int
    executable: str
    system: str
    total_memory: int

    def memory(self) -> int:
        """Bytes of main memory in use by the process."""
        ...

    def release_memory(self) -> None:
        """Give what is free back to the operating system, as far as that is possible."""
        ...

    def cpu_time(self) -> CpuTime: ...

    def secret(self, size: int) -> bytes:
        """Bytes that nobody can guess, so many."""
        ...


class Nowhere:
    """No machine at all: in simulations and tests."""

    process_id = 0
    executable = ""
    system = "none"
    total_memory = 0

    def memory(self) -> int:
        return 0

    def release_memory(self) -> None:
        return

    def cpu_time(self) -> CpuTime:
        return CpuTime()

    def secret(self, size: int) -> bytes:
        return bytes(size)  # there are none where all can be run again


class SystemHost:
    """The process this is."""

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self.executable = os.path.abspath(sys.argv[0])
        name = os.uname()
        self.system = f"{name.sysname} {name.release} {platform.machine()}"
        self._page = os.sysconf("SC_PAGE_SIZE")
        self.total_memory = os.sysconf("SC_PHYS_PAGES") * self._page

    def memory(self) -> int:
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * self._page
        except OSError:  # not on Linux: the most there ever was
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def release_memory(self) -> None:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)

    def cpu_time(self) -> CpuTime:
        times = os.times()
        return CpuTime(times.system, times.user, times.children_system, times.children_user)

    def secret(self, size: int) -> bytes:
        return secrets.token_bytes(size)
