"""Which vector instructions the convolutions of bytes may use.

Numba compiles for the host, or for what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say; asking LLVM for
an instruction that the compilation target lacks aborts the process, so the target is asked here.
"""

from __future__ import annotations

import functools
from typing import Literal

import llvmlite.binding as llvm
import numba

from intaglio.errors import DataError

Isa = Literal["avx512vnni", "generic"]
ISAS: tuple[Isa, ...] = ("avx512vnni", "generic")


@functools.cache
def supported() -> tuple[Isa, ...]:
    """What this process can run, best first; "generic" is always there."""
    features = target_features()
    vnni = "avx512vnni" in features and "avx512bw" in features
    return ISAS if vnni else ("generic",)


def target_features() -> set[str]:
    """Names of the CPU features that Numba compiles for. A CPU named by NUMBA_CPU_NAME counts with
    the features that NUMBA_CPU_FEATURES switches on, and no others."""
    settings = vars(numba.config)
    stated = settings["CPU_FEATURES"]
    if stated is not None or settings["CPU_NAME"] is not None:
        return {word[1:] for word in (stated or "").split(",") if word.startswith("+")}
    return {name for name, there in llvm.get_host_cpu_features().items() if there}


def choose(isa: str | None) -> Isa:
    """The named instruction set, or the best one. Raises DataError where it is not there."""
    for known in supported():
        if isa in (None, known):
            return known
    names = " or ".join(supported())
    raise DataError(f"isa must be {names} on this machine, not {isa!r}; leave it out for the best.")
