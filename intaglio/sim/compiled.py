"""Kernels: Python functions that become machine code behind an address, kept on disk.

A kernel is compiled for the kinds of its arguments, and its machine code kept under a name that
holds the sources of all kernels, those kinds, the processor and the versions of Python, Numba and
LLVM: an edit anywhere in them compiles anew. What was kept starts without Numba, whose import takes
longer than most images take to run; a module with kernels therefore has Numba's parts from here.

A kernel must not raise anything: nobody could catch it, so that it ends the process.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from llvmlite import ir

from intaglio.sim.code.kernel import Code, Kernel, Later, Written
from intaglio.sim.code.loading import load
from intaglio.sim.code.store import keep, kept
from intaglio.sim.code.target import identity
from intaglio.system.steps import aside

LONG = ir.IntType(64)
POINTER = ir.IntType(8).as_pointer()

types: Any = Later("numba.core.types")
cgutils: Any = Later("numba.core.cgutils")

_ADDRESSES: dict[Code, int] = {}
_LOCK = RLock()  # images run in threads


def jit(function: Any) -> Kernel:
    """A kernel."""
    return Kernel(function)


def inlined(function: Any) -> Kernel:
    """A kernel that is written into the kernels that call it, before they are compiled."""
    return Kernel(function, inline=True)


def named(function: Any, name: str) -> Kernel:
    """`jit` of one of several functions that the same lines make."""
    function.__qualname__ = name
    return jit(function)


def written(function: Any) -> Any:
    """An intrinsic, whose first argument is Numba's typing context."""
    return Written(function)


@dataclass(frozen=True)
class Pointer:
    """A kernel of `count` 64-bit integers, as an argument of another: its address, once needed."""

    kernel: Kernel
    count: int

    @property
    def code(self) -> Code:
        """What is compiled."""
        kinds = ", ".join(("int64",) * self.count)
        return Code(self.kernel, kinds, lambda: (types.int64,) * self.count)

    @property
    def address(self) -> int:
        """Of the machine code, which is made if need be."""
        return address_of(self.code)


def address_of(code: Code) -> int:
    """Where machine code lies; it is made if need be."""
    made_ready((code,))
    return _ADDRESSES[code]


def made_ready(codes: Iterable[Code]) -> None:
    """Machine code of all of these: what is neither here nor kept is compiled, and kept."""
    with _LOCK:
        missing = {}
        for code in codes:
            if code in _ADDRESSES or code in missing:
                continue
            file = file_name(code.kernel.function, code.kinds)
            made = kept(file)
            if made is None:
                missing[code] = file
            else:
                _ADDRESSES[code] = load(made)
        if missing:
            from intaglio.sim.code.sharing import emit_all

            with aside("compiling kernels", len(missing)) as progress:
                for code, made in emit_all(tuple(missing), progress):
                    keep(missing[code], made)
                    _ADDRESSES[code] = load(made)


def ready(kernel: Any, *arguments: Any) -> Any:
    """A plain `numba.njit` function, with machine code for arguments like these: Numba's own cache
    asks for a folder beside the source or in the user's home."""
    import numba
    from numba.core.compiler import CompileResult
    from numba.core.serialize import dumps

    signature = tuple(map(numba.typeof, arguments))
    if signature not in kernel.overloads:
        file = file_name(kernel.py_func, repr(signature))
        made = kept(file)
        if made is None:
            kernel.compile(signature)
            state = kernel.overloads[signature]._reduce()
            keep(file, dumps(state))  # type: ignore[no-untyped-call]  # Numba's own
        else:
            kernel.targetctx.refresh()
            again = CompileResult._rebuild(kernel.targetctx, *pickle.loads(made))  # type: ignore[no-untyped-call]  # as above
            kernel.add_overload(again)
    return kernel


def file_name(function: Any, kinds: str) -> str:
    """Of a function's machine code."""
    own = Path(function.__code__.co_filename).read_bytes()
    digest = hashlib.sha256(repr((sources(), own, identity(), kinds)).encode()).hexdigest()
    return f"{function.__module__}.{function.__qualname__}-{digest[:24]}.kernel"


@functools.cache
def sources() -> str:
    """A digest of everything that the simulator's kernels are made from."""
    here = Path(__file__).parent
    files = [here.parent / "fixed.py", *sorted(here.rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def caller(count: int) -> Any:
    """The function that calls what is at an address with `count` 64-bit integers."""

    @written
    def call(context, address, arguments):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            address, given = values
            kind = ir.FunctionType(LONG, (LONG,) * count)
            target = builder.inttoptr(address, kind.as_pointer())
            return builder.call(target, [builder.extract_value(given, i) for i in range(count)])

        return types.int64(types.int64, types.UniTuple(types.int64, count)), generate

    return call
