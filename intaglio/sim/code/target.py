"""The processor that kernels are compiled for, as Numba's settings have it, without Numba.

Numba reads its settings from the environment, or from a file in the folder it starts in.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

SETTINGS = Path(".numba_config.yaml")


def setting(name: str) -> str | None:
    """One of Numba's settings that are words, like CPU_NAME; None where it is not stated."""
    if "numba" in sys.modules or SETTINGS.exists():
        from numba import config

        found: str | None = vars(config)[name]
        return found
    return os.environ.get(f"NUMBA_{name}")


@functools.cache
def features() -> frozenset[str]:
    """Names of the CPU features that Numba compiles for. A CPU named by NUMBA_CPU_NAME counts with
    the features that NUMBA_CPU_FEATURES switches on, and no others."""
    stated = setting("CPU_FEATURES")
    if stated is not None or setting("CPU_NAME") is not None:
        return frozenset(word[1:] for word in (stated or "").split(",") if word.startswith("+"))
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@functools.cache
def identity() -> tuple[object, ...]:
    """All that machine code depends on beside its sources: processor, Python, Numba and its
    settings, and LLVM."""
    stated = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_"))
    return (
        llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(),
        [one for one in stated if one[0] != "NUMBA_CACHE_DIR"],
        SETTINGS.read_bytes() if SETTINGS.exists() else b"",
        sys.version, numba_version(), llvmlite.__version__, llvm.llvm_version_info,
    )  # fmt: skip


def numba_version() -> bytes:
    """What Numba's own file says of its version; asking Numba would import it."""
    found = find_spec("numba")
    if found is None or not found.submodule_search_locations:
        return b""
    return (Path(found.submodule_search_locations[0]) / "_version.py").read_bytes()
