"""The list of kernel calls that makes an image, run without Python in between.

A step is the address of a compiled kernel, the address of its arguments, and a number of parts.
Several threads may run one list: each takes parts of a step until none is left, and goes on to the
next step when all are done.

The arguments lie in memory as Numba keeps a tuple of arrays and integers, one 64-bit word after the
other (`words`), so that a kernel finds them behind a pointer of that tuple's type.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from intaglio.sim import kernels, plain, products
from intaglio.sim.amx import walk
from intaglio.sim.code.kernel import Code, Kernel, kind
from intaglio.sim.compiled import (
    LONG,
    Pointer,
    address_of,
    caller,
    cgutils,
    jit,
    made_ready,
    types,
    written,
)
from intaglio.sim.vector import lookups, packed, turning, winograd

Array = NDArray[Any]
PATIENCE = 4096  # looks at another thread's work before the processor is offered to it
LINGER = 2000  # offers before a helper without an image leaves: about a millisecond


@jit
def conv(p: Any, first: int, last: int, worker: int) -> int:
    plain.conv(*p[0], first, last, worker)
    return 0


@jit
def depthwise(p: Any, first: int, last: int, worker: int) -> int:
    plain.depthwise(*p[0], first, last, worker)
    return 0


@jit
def conv_packed(p: Any, first: int, last: int, worker: int) -> int:
    packed.conv(*p[0], first, last, worker)
    return 0


@jit
def conv_winograd(p: Any, first: int, last: int, worker: int) -> int:
    winograd.conv(*p[0], first, last, worker)
    return 0


@jit
def codes_packed(p: Any, first: int, last: int, worker: int) -> int:
    packed.codes(*p[0], first, last, worker)
    return 0


@jit
def codes_lanes(p: Any, first: int, last: int, worker: int) -> int:
    packed.codes_lanes(*p[0], first, last, worker)
    return 0


@jit
def codes_tiles(p: Any, first: int, last: int, worker: int) -> int:
    walk.codes(*p[0], first, last, worker)
    return 0


@jit
def codes_winograd(p: Any, first: int, last: int, worker: int) -> int:
    winograd.codes(*p[0], first, last, worker)
    return 0


@jit
def requant(p: Any, first: int, last: int, worker: int) -> int:
    kernels.requant_rows(*p[0], first, last)
    return 0


@jit
def requant_trn(p: Any, first: int, last: int, worker: int) -> int:
    kernels.requant_rows_trn(*p[0], first, last)
    return 0


@jit
def add(p: Any, first: int, last: int, worker: int) -> int:
    kernels.add(*p[0], first, last)
    return 0


@jit
def add_narrow(p: Any, first: int, last: int, worker: int) -> int:
    kernels.add_narrow(*p[0], first, last)
    return 0


@jit
def multiply(p: Any, first: int, last: int, worker: int) -> int:
    products.multiply(*p[0], first, last)
    return 0


@jit
def multiply_narrow(p: Any, first: int, last: int, worker: int) -> int:
    products.multiply_narrow(*p[0], first, last)
    return 0


@jit
def product(p: Any, first: int, last: int, worker: int) -> int:
    products.product(*p[0], first, last)
    return 0


@jit
def maxpool(p: Any, first: int, last: int, worker: int) -> int:
    kernels.maxpool(*p[0], first, last, worker)
    return 0


@jit
def sumpool(p: Any, first: int, last: int, worker: int) -> int:
    kernels.sumpool(*p[0], first, last)
    return 0


@jit
def picked(p: Any, first: int, last: int, worker: int) -> int:
    kernels.picked(*p[0], first, last)
    return 0


@jit
def interpolated(p: Any, first: int, last: int, worker: int) -> int:
    kernels.interpolated(*p[0], first, last)
    return 0


@jit
def selected(p: Any, first: int, last: int, worker: int) -> int:
    kernels.selected(*p[0], first, last)
    return 0


@jit
def deepened(p: Any, first: int, last: int, worker: int) -> int:
    kernels.deepened(*p[0], first, last)
    return 0


@jit
def spread(p: Any, first: int, last: int, worker: int) -> int:
    kernels.spread(*p[0], first, last)
    return 0


@jit
def place(p: Any, first: int, last: int, worker: int) -> int:
    kernels.place(*p[0], first, last)
    return 0


@jit
def lookup(p: Any, first: int, last: int, worker: int) -> int:
    kernels.lookup(*p[0], first, last)
    return 0


@jit
def lookup_by_channel(p: Any, first: int, last: int, worker: int) -> int:
    kernels.lookup_by_channel(*p[0], first, last)
    return 0


@jit
def lookup_bytes(p: Any, first: int, last: int, worker: int) -> int:
    lookups.lookup(*p[0], first, last)
    return 0


@jit
def border(p: Any, first: int, last: int, worker: int) -> int:
    kernels.border(*p[0], first, last)
    return 0


@jit
def pixels(p: Any, first: int, last: int, worker: int) -> int:
    kernels.pixels(*p[0], first, last)
    return 0


@jit
def pixels_of_three(p: Any, first: int, last: int, worker: int) -> int:
    kernels.pixels_of_three(*p[0], first, last)
    return 0


@jit
def planes(p: Any, first: int, last: int, worker: int) -> int:
    kernels.planes(*p[0], first, last)
    return 0


def words(value: Any) -> list[int]:
    """A tuple of arrays, integers and tuples as Numba lays it out, in 64-bit words: an array is
    its owner twice (nobody: whoever made the list keeps it), size, item size, address, shape,
    strides; a kernel is its address, and what is not there a word that nobody reads."""
    if isinstance(value, Pointer):
        return [value.address]
    if value is None:
        return [0]
    if isinstance(value, np.ndarray):
        head = [0, 0, value.size, value.itemsize, value.ctypes.data]
        return [*head, *value.shape, *value.strides]
    if isinstance(value, tuple):
        return [word for part in value for word in words(part)]
    return [int(value)]


@jit
def planes_turned(p: Any, first: int, last: int, worker: int) -> int:
    turning.planes(*p[0], first, last)
    return 0


# Kernels of maps that may lie inside a border of their own.
MAPS = (
    requant, requant_trn, add, add_narrow, multiply, multiply_narrow, product, maxpool, sumpool,
    picked, interpolated, selected, deepened, spread, place, lookup, lookup_by_channel,
    lookup_bytes, border, pixels, pixels_of_three, planes, planes_turned,
)  # fmt: skip


def loosely(value: Any) -> Any:
    """In the place of a map, whose rows may lie apart, an array of which they do."""
    if isinstance(value, np.ndarray) and value.ndim == 3:
        return np.empty((2, 2, 2), value.dtype)[:, :1]
    return value


def code_of(kernel: Kernel, arguments: tuple[Any, ...]) -> Code:
    """A step's kernel for arguments of these kinds."""
    plain = tuple(0 if isinstance(one, Pointer) else one for one in arguments)
    if kernel in MAPS:
        plain = tuple(map(loosely, plain))
    return Code(kernel, f"step {kind(plain)}", partial(types_of, plain))


def types_of(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numba's types of what a step's kernel takes: a pointer to its arguments, three numbers."""
    from numba import typeof

    typed: Any = typeof  # Numba's types have no types
    kinds = [typed(one) for one in arguments]
    return (types.CPointer(types.Tuple(kinds)), *(types.int64,) * 3)


@dataclass(frozen=True)
class Steps:
    """table   (steps, 4) int64: address of the kernel, of its arguments, size, size of a part
    words     the arguments of all steps
    counts    (steps, 2) int64: parts taken, parts done
    gate      (3,) int64: odd while an image runs; helpers that came in, that went out
    kept      the arrays that the words point to
    """

    table: NDArray[np.int64]
    words: NDArray[np.int64]
    counts: NDArray[np.int64]
    gate: NDArray[np.int64]
    kept: tuple[Any, ...]

    def begin(self) -> None:
        """Make ready for the next image."""
        self.counts[:] = 0

    def run(self) -> None:
        """All steps, by this thread alone."""
        function_of(run_alone, 2)(self.addresses[0], len(self.table))

    def lead(self) -> None:
        """All steps since `begin`, with the help of those who attend; none is among them behind
        it."""
        function_of(run_leading, 4)(*self.addresses)

    def attend(self, worker: int) -> None:
        """Help with images as they come; back when for a while none has come."""
        function_of(run_attending, 5)(*self.addresses, worker)

    @cached_property
    def addresses(self) -> tuple[int, int, int, int]:
        """What `lead` and `attend` share."""
        table, counts, gate = self.table, self.counts, self.gate
        return table.ctypes.data, counts.ctypes.data, len(table), gate.ctypes.data


@dataclass(frozen=True)
class Step:
    """One call: `kernel`(arguments, first, last, worker) over 0 ... size - 1, `part` at a time."""

    kernel: Kernel
    arguments: tuple[Any, ...]
    size: int
    part: int


def make_steps(steps: Sequence[Step]) -> tuple[Steps, list[int]]:
    """The list, and where each step's arguments begin among its words."""
    codes = [code_of(step.kernel, step.arguments) for step in steps]
    behind = (one.code for s in steps for one in s.arguments if isinstance(one, Pointer))
    made_ready((*codes, *behind, Pointer(run_alone, 2).code))
    laid = [words(step.arguments) for step in steps]
    places = np.cumsum([0, *map(len, laid)])
    memory = np.array([word for part in laid for word in part], dtype=np.int64)
    rows = [
        (address_of(code), memory.ctypes.data + 8 * place, s.size, s.part)
        for code, s, place in zip(codes, steps, places, strict=False)
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    counts = np.zeros((len(rows), 2), dtype=np.int64)
    kept = tuple(s.arguments for s in steps)
    return Steps(table, memory, counts, np.zeros(3, np.int64), kept), places.tolist()


call = caller(4)


@cache
def function_of(kernel: Kernel, count: int) -> Callable[..., None]:
    """A kernel of `count` 64-bit integers as a function that runs without Python's lock."""
    kind = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * count)
    return kind(Pointer(kernel, count).address)


def called(kernel: Kernel, arguments: tuple[Any, ...], *numbers: int) -> int:
    """What a kernel like a step's gives, by itself, without Python's lock: of its arguments and up
    to three numbers."""
    memory = np.array(words(arguments), dtype=np.int64)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64,) * 4)
    function = kind(address_of(code_of(kernel, arguments)))
    given = (*numbers, 0, 0, 0)[:3]
    return int(function(memory.ctypes.data, *given))


@written
def take(context, address):  # type: ignore[no-untyped-def]  # as above
    """Add 1 to the word at an address, as one indivisible act; what it was."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
        pointer = builder.inttoptr(values[0], LONG.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(LONG, 1), "seq_cst")

    return types.int64(types.int64), generate


@written
def look(context, address):  # type: ignore[no-untyped-def]  # as above
    """The word at an address, which another thread may change."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
        pointer = builder.inttoptr(values[0], LONG.as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64), generate


@written
def offer(context):  # type: ignore[no-untyped-def]  # as above
    """Let another thread have the processor."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), ())
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), ())  # type: ignore[no-untyped-call]  # Numba's own
        return context.get_dummy_value()

    return types.void(), generate


@jit
def run_alone(table: int, steps: int) -> None:
    """Every step as a whole; `table` is the address of that of Steps."""
    for i in range(steps):
        row = table + 32 * i
        call(look(row), (look(row + 8), 0, look(row + 16), 0))


@jit
def run_together(table: int, counts: int, steps: int, worker: int) -> None:
    """Parts of every step, as long as there are any; `table` and `counts` are addresses."""
    for i in range(steps):
        row, taken = table + 32 * i, counts + 16 * i
        kernel, arguments, size, part = look(row), look(row + 8), look(row + 16), look(row + 24)
        parts = (size + part - 1) // part
        while True:
            mine = take(taken)
            if mine >= parts:
                break
            first = mine * part
            call(kernel, (arguments, first, min(first + part, size), worker))
            take(taken + 8)
        looks = 0
        while look(taken + 8) < parts:
            looks += 1
            if looks > PATIENCE:
                offer()


@jit
def run_leading(table: int, counts: int, steps: int, gate: int) -> None:
    """As worker 0, with the gate open meanwhile. Whoever came in has nothing left to do."""
    take(gate)
    run_together(table, counts, steps, 0)
    take(gate)
    looks = 0
    while look(gate + 8) != look(gate + 16):
        looks += 1
        if looks > PATIENCE:
            offer()


@jit
def run_attending(table: int, counts: int, steps: int, gate: int, worker: int) -> None:
    """Through the gate whenever it opens: it must be open still when one's coming in is counted,
    for then the leader waits."""
    seen = looks = 0
    while looks < PATIENCE + LINGER:
        opened = look(gate)
        if opened % 2 == 1 and opened != seen:
            take(gate + 8)
            if look(gate) == opened:
                run_together(table, counts, steps, worker)
            take(gate + 16)
            seen, looks = opened, 0
            continue
        looks += 1
        if looks > PATIENCE:
            offer()
