"""Whether this process may use the tiles of AMX.

Linux gives a thread's tiles their 8 KiB only to processes that ask (`arch_prctl`, see the kernel's
Documentation/arch/x86/xstate.rst); the first tile instruction of any other ends it. What is given
holds for all threads and for copies by fork, not for a new program. It is refused where a thread's
signal stack is too small for the tiles.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
ARCH_PRCTL = 158  # the system call's number on x86-64
GET, REQUEST = 0x1022, 0x1023  # ARCH_GET_XCOMP_PERM, ARCH_REQ_XCOMP_PERM
TILES = 18  # the number of the tiles' data among the processor's extended states
FLAGS = frozenset({"amx_tile", "amx_int8"})  # as CPUINFO calls them


@functools.cache
def granted() -> bool:
    """Ask once in this process; False too where nobody knows of such tiles."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32 or not flags() >= FLAGS:
        return False
    held = ctypes.c_uint64()
    return (
        arch_prctl(REQUEST, TILES) == 0
        and arch_prctl(GET, ctypes.addressof(held)) == 0
        and bool(held.value >> TILES & 1)
    )


def flags() -> frozenset[str]:
    """What the operating system says that the processor has."""
    try:
        lines = CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), ()))


def arch_prctl(code: int, argument: int) -> int:
    """The system call: 0, or -1 where it is refused."""
    call = ctypes.CDLL(None).syscall
    call.restype = ctypes.c_long
    result: int = call(ctypes.c_long(ARCH_PRCTL), ctypes.c_long(code), ctypes.c_long(argument))
    return result
