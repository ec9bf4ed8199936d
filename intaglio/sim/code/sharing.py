"""Several kernels compiled at the same time, by copies of this process: Numba holds Python's lock
and LLVM one of its own, so that threads would wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from intaglio.sim.code.emitting import codegen, emit
from intaglio.sim.code.kernel import Code
from intaglio.system.copies import as_done
from intaglio.system.threads import most

PATIENCE = 120.0  # seconds, for one kernel; the longest takes some five


def emit_all(
    codes: Sequence[Code], progress: Callable[[int, int], None]
) -> Iterator[tuple[Code, bytes]]:
    """An object of each, in any order; those whose kinds are most come first, as they take longest.
    `progress` is told how many are done, and of how many."""
    first = sorted(codes, key=lambda code: -len(code.kinds))
    codegen()  # what every copy needs
    for done, (place, made) in enumerate(as_done(emit, first, most(), PATIENCE), 1):
        progress(done, len(first))
        yield first[place], made
