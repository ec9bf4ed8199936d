"""Kernels as machine code behind an address, compiled by Numba once and kept on disk.

A kernel is compiled for the types of its arguments, by the C convention, and its machine code kept
under a name that holds the sources of all kernels, the types, the processor and the versions of
Python and Numba: an edit anywhere in them compiles anew. What was kept starts without the part of
Numba that compiles, which takes longer to import than most images take to run.

The files lie in NUMBA_CACHE_DIR, else in the user's cache folder, else in a temporary one; where
nothing can be written, each process compiles for itself.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import ir
from numba import types
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps
from numba.extending import intrinsic

from intaglio.errors import DataError
from intaglio.system.disk import private_folder, reason, user_cache, write_bytes

Kernel = Callable[..., Any]
LONG = ir.IntType(64)
POINTER = ir.IntType(8).as_pointer()


def jit(kernel: Kernel) -> Kernel:
    """Compiled on its first call, or into the kernels that call it."""
    return BORROWING(nogil=True)(kernel)


def inlined(kernel: Kernel) -> Kernel:
    """Written into the kernels that call it, before they are compiled."""
    return BORROWING(inline="always")(kernel)


# Arrays are not counted: whoever calls keeps them.
BORROWING: Callable[..., Callable[[Kernel], Kernel]] = functools.partial(numba.njit, _nrt=False)


def named(kernel: Kernel, name: str) -> Kernel:
    """`jit` of one of several functions that the same lines make."""
    kernel.__qualname__ = name
    return jit(kernel)


@functools.cache
def address_of(kernel: Any, signature: tuple[Any, ...]) -> int:
    """The machine code of a `jit` kernel for arguments of these Numba types."""
    file = file_name(kernel, signature)
    made = kept(file)
    if made is None:
        kernel.compile(signature)
        compiled = kernel.overloads[signature]
        name, library = compiled.fndesc.llvm_cfunc_wrapper_name, compiled.library
        keep(file, pickle.dumps((name, library.serialize_using_object_code())))
    else:
        name, state = made
        library = cpu_target.target_context.codegen().unserialize_library(state)
    LIBRARIES.append(library)
    address: int = library.get_pointer_to_function(name)
    return address


LIBRARIES: list[Any] = []  # own the machine code of every address given out


def ready(kernel: Any, *arguments: Any) -> Any:
    """A plain `numba.njit` function, with machine code for arguments like these: Numba's own cache
    asks for a folder beside the source or in the user's home."""
    signature = tuple(map(numba.typeof, arguments))
    if signature not in kernel.overloads:
        file = file_name(kernel, signature)
        made = kept(file)
        if made is None:
            kernel.compile(signature)
            state = kernel.overloads[signature]._reduce()
            keep(file, dumps(state))  # type: ignore[no-untyped-call]  # Numba's own
        else:
            kernel.targetctx.refresh()
            again = CompileResult._rebuild(kernel.targetctx, *made)  # type: ignore[no-untyped-call]  # as above
            kernel.add_overload(again)
    return kernel


def kept(file: str) -> Any:
    """What `keep` wrote; None where there is nothing whole."""
    for folder in folders():
        try:
            return pickle.loads((folder / file).read_bytes())
        except Exception:  # pickle names no base class for what damaged bytes raise
            continue
    return None


def keep(file: str, made: bytes) -> None:
    """Write it, if that can be done; where that is the temporary folder, say so."""
    refused = ""
    for folder in folders(make=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / file, made)
        except OSError as error:
            refused = refused or f"{folder} must be writable, not: {reason(error)}."
        except DataError as error:
            refused = refused or str(error)
        else:
            if refused:
                tell(f"intaglio: compiled code is kept in {folder}. {refused}")
            return


@functools.cache
def tell(sentence: str) -> None:
    """Once in a process, on the standard error."""
    print(sentence, file=sys.stderr)


def file_name(kernel: Any, signature: tuple[Any, ...]) -> str:
    """Of a kernel's machine code."""
    function = kernel.py_func
    target = cpu_target.target_context.codegen().magic_tuple()
    own = Path(function.__code__.co_filename).read_bytes()
    parts = (
        sources(), own, sys.version, numba.__version__, llvmlite.__version__, target, signature
    )  # fmt: skip
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return f"{function.__module__}.{function.__qualname__}-{digest[:24]}.kernel"


@functools.cache
def sources() -> str:
    """A digest of everything that the simulator's kernels are made from."""
    here = Path(__file__).parent
    files = [here.parent / "fixed.py", *sorted(here.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def folders(*, make: bool = False) -> list[Path]:
    """Where machine code is kept, in the first that can be written, and looked for: the one that is
    stated or the user's, and a temporary one, if it is there or to `make`."""
    stated, cache = vars(numba.config)["CACHE_DIR"], user_cache()
    found = [Path(stated)] if stated else [cache / "intaglio"] if cache else []
    with suppress(OSError):
        found.append(private_folder(make=make))
    return found


@dataclass(frozen=True)
class Pointer:
    """A kernel of `count` 64-bit integers, as an argument of another: its address, once needed."""

    kernel: Kernel
    count: int

    @property
    def address(self) -> int:
        return address_of(self.kernel, (types.int64,) * self.count)


def written(function: Any) -> Any:
    """An intrinsic; Numba types it with the context that callers do not give."""
    return intrinsic(function)


def caller(count: int) -> Any:
    """The function that calls what is at an address with `count` 64-bit integers."""

    @written
    def call(context, address, arguments):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            address, given = values
            kind = ir.FunctionType(LONG, (LONG,) * count)
            target = builder.inttoptr(address, kind.as_pointer())
            return builder.call(target, [builder.extract_value(given, i) for i in range(count)])

        return types.int64(types.int64, types.UniTuple(types.int64, count)), generate  # type: ignore[no-untyped-call]  # Numba's own

    return call
