"""What the fast engine decides once for a Program: fusion, buffers, width of sums, packed weights.

A Requant that alone reads an accumulator runs inside the convolution's kernel, and the accumulator
is never stored; nor are products of two maps. A tensor's buffer is used again when its last reader
has run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.ops import (
    Conv2d,
    Ints,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Padding,
    Requant,
    SumPool2d,
    Windowed,
    rounding_of,
)  # fmt: skip
from intaglio.program import Program
from intaglio.sim.amx import walk
from intaglio.sim.amx.tiles import REGISTERS as REGISTERS_OF_TILES
from intaglio.sim.isa import Isa, Unit, unit_of
from intaglio.sim.kernels import ALIGN
from intaglio.sim.reference import narrowed, saturates
from intaglio.sim.vector import high, packed, winograd
from intaglio.sim.vector.forms import FORMS, Form, Tiled
from intaglio.sim.vector.high import Table

Array = NDArray[Any]
Kind = Literal[Tiled, "tiles", "bytes", "pairs", "lanes", "depthwise", "words", "exact"]


@dataclass(frozen=True)
class Node:
    """One kernel's work: an operation, and the Requant fused behind it."""

    op: Op
    requant: Requant | None = None

    @property
    def output(self) -> str:
        """The tensor it writes."""
        return self.requant.output if self.requant else self.op.output


@dataclass(frozen=True)
class Sums:
    """How a Conv2d adds up: `kind` names its kernel and operands; `weight` is packed for them, and
    shared by the levels of a shared head.

    tiles       8-bit codes and weights, int32 sums in high words, by AMX: `sim.amx`
    winograd    3x3 of 8-bit codes and weights, sums of 26 bits: `sim.winograd`, by words; and by
                bytes, where points of the codes and of the weights are bytes, in tiles of
                2x2 outputs or, oblong, of 3x2
    bytes       8-bit codes and weights, int32 sums, on a vector unit: `sim.packed`
    pairs       int16 operands, int32 sums, on a vector unit: `sim.packed`
    lanes       8-bit codes, int16 weights, int32 sums in high words, one channel a group, on a
                vector unit: `sim.packed`
    depthwise   int16 operands, int32 sums, one channel a group
    words       int16 operands, int32 sums
    exact       all in int64, where int16 operands and int32 sums do not suffice
    """

    kind: Kind
    weight: Array


@dataclass(frozen=True)
class Halo:
    """A border that stands around a tensor: `size` pixels of the codes `outside`, one for each
    channel or one for all. Windows read over it, so that nothing is copied."""

    size: Padding
    outside: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """slots  the number of the buffer of every tensor that is stored
    sums   by Conv2d output
    tables  of `sim.high` by Conv2d output, where its Requant is exact in high words of registers
    halos  by tensor
    """

    program: Program
    isa: Isa
    nodes: tuple[Node, ...]
    slots: dict[str, int]
    sums: dict[str, Sums]
    tables: dict[str, Table]
    halos: dict[str, Halo]


def make_plan(program: Program, trace: bool = False, isa: Isa = "generic") -> Plan:
    """The plan; with `trace` nothing is fused and every tensor keeps its own buffer."""
    nodes = nodes_of(program, fuse=not trace)
    made: dict[tuple[str, int, int, Kind], Sums] = {}
    sums, tables = {}, {}
    for op, requant in ((n.op, n.requant) for n in nodes if isinstance(n.op, Conv2d)):
        table = in_high_words(program, op, requant, isa) if requant else None
        kind = kind_of(program, op, isa, table is not None)
        if table is not None and kind in REGISTERS:
            tables[op.output] = table
        key = (op.weight, op.groups, pieces(program, op), kind)
        if key not in made:
            made[key] = pack(program.constants[op.weight].array, *key[1:], unit_of(isa))
        sums[op.output] = made[key]
    halos = halos_of(program, nodes, isa, sums, tables)
    slots = assign(program, nodes, halos, reuse=not trace)
    return Plan(program, isa, nodes, slots, sums, tables, halos)


REGISTERS = (*FORMS, "tiles", "bytes", "pairs", "lanes")  # kinds on vector units


def in_high_words(program: Program, op: Conv2d, requant: Requant, isa: Isa) -> Table | None:
    """The table of `sim.high` for a Requant right behind a convolution, channels in whole registers
    for each group; None where there is no vector unit, the accumulator is narrower than proved, or
    high words do not hold it."""
    unit = unit_of(isa)
    if unit is None or narrowed(op, program) is not None:
        return None
    stored = storage(program, requant.output, isa)
    if program.arithmetic.product != "exact" or stored == np.int64:
        return None
    m, b = (program.constants[name].array for name in (requant.multiplier, requant.bias))
    channels, sums = program.tensors[op.output].shape[0], program.tensors[op.output]
    groups = 1 if apart(program, op) else op.groups
    outs = channels // groups
    columns = []
    held = unit.lanes * (REGISTERS_OF_TILES if unit.tiles else 1)
    for values, nothing in ((m, 0), (b, 0), (requant.shift, 32)):
        padded = np.full((groups, whole(outs, held)), nothing, dtype=np.int64)
        padded[:, :outs] = np.resize(values, channels).reshape(groups, outs)
        columns.append(padded.reshape(-1).tolist())
    counted = in_bytes(program, requant.output, isa)
    base = program.tensors[requant.output].type.lo if counted else 0
    ends = requant.offset - base, requant.lo - base, requant.hi - base
    m_all, b_all, s_all = columns
    rounding = rounding_of(requant, program.arithmetic)
    return high.table(m_all, b_all, s_all, (sums.lo, sums.hi), ends, rounding, unit.lanes)


def in_bytes(program: Program, name: str, isa: Isa) -> bool:
    """Whether the engine keeps a tensor in bytes, counted from its type's lowest code; sums and
    products are kept as they are."""
    narrow = program.tensors[name].type.bits <= 8
    return (
        isa != "generic" and narrow and not isinstance(program.producer[name], (Conv2d, Multiply))
    )


def storage(program: Program, name: str, isa: Isa) -> np.dtype[Any]:
    """How the engine keeps a tensor: in bytes where its kernels read them, else in words of 16 bits
    where every code fits, else in int64."""
    if in_bytes(program, name, isa):
        return np.dtype(np.uint8)
    type = program.tensors[name].type
    for words in (np.int16, np.uint16):
        if np.iinfo(words).min <= type.lo and type.hi <= np.iinfo(words).max:
            return np.dtype(words)
    return np.dtype(np.int64)


def halos_of(
    program: Program,
    nodes: tuple[Node, ...],
    isa: Isa,
    sums: dict[str, Sums],
    tables: dict[str, Table],
) -> dict[str, Halo]:
    """Borders for the windows that read bytes over them, around what kernels write row by row: the
    largest that any reader needs, of the codes that the first one reads outside."""
    halos: dict[str, Halo] = {}
    for node in nodes:
        tensor = program.tensors[node.output]
        apart = not isinstance(node.op, Conv2d) or node.op.output in tables
        if not apart or not in_bytes(program, node.output, isa):
            continue
        for reader in program.consumers[node.output]:
            if not isinstance(reader, Windowed) or not reads_over(reader, sums, tables):
                continue
            halo = Halo(needed(program, reader, sums), reader.outside(tensor))
            known = halos.get(node.output, halo)
            if known.outside == halo.outside:
                size = tuple(map(max, known.size, halo.size))
                halos[node.output] = Halo(size, known.outside)  # type: ignore[arg-type]  # four again
    return {name: halo for name, halo in halos.items() if any(halo.size)}


def reads_over(op: Windowed, sums: dict[str, Sums], tables: dict[str, Table]) -> bool:
    """Whether its kernel reads a map of bytes where it lies."""
    if isinstance(op, Conv2d):
        kind = sums[op.output].kind
        return kind in FORMS or (op.output in tables and kind in ("tiles", "bytes", "lanes"))
    return isinstance(op, MaxPool2d | SumPool2d)


def needed(program: Program, op: Windowed, sums: dict[str, Sums]) -> Padding:
    """The padding, and for whole tiles what makes the windows of a 3x3 kernel a multiple."""
    top, bottom, left, right = op.padding
    if isinstance(op, Conv2d) and sums[op.output].kind in FORMS:
        tall, wide = FORMS[sums[op.output].kind].sides
        _, height, width = program.tensors[op.output].shape
        bottom += whole(height, tall) - height
        right += whole(width, wide) - width
    return top, bottom, left, right


def nodes_of(program: Program, fuse: bool) -> tuple[Node, ...]:
    """The operations in order, each Requant that alone reads a Conv2d or a Multiply fused behind
    it."""
    fused: dict[str, Requant] = {}
    for op in (*program.of_kind(Conv2d), *program.of_kind(Multiply)):
        readers = program.consumers[op.output]
        if fuse and len(readers) == 1 and isinstance(readers[0], Requant):
            fused[op.output] = readers[0]
    inside = {requant.output for requant in fused.values()}
    return tuple(Node(op, fused.get(op.output)) for op in program.ops if op.output not in inside)


def assign(
    program: Program, nodes: tuple[Node, ...], halos: dict[str, Halo], reuse: bool
) -> dict[str, int]:
    """A buffer number for every tensor; an Output shares that of its input, kept to the end. What
    stands in a border is alone in its buffer, or with others of its size and border."""
    last = {name: i for i, node in enumerate(nodes) for name in node.op.inputs}
    last |= {op.input: len(nodes) for op in program.of_kind(Output)}
    slots: dict[str, int] = {}
    free: dict[Any, list[int]] = {}
    count = 0

    def kept(name: str) -> list[int]:
        """The free buffers among which a tensor's own would be."""
        tensor, halo = program.tensors[name], halos.get(name)
        return free.setdefault((tensor.shape, tensor.type, halo) if halo else None, [])

    for i, node in enumerate(nodes):
        if isinstance(node.op, Output):
            slots[node.output] = slots[node.op.input]
            continue
        if not kept(node.output):
            kept(node.output).append(count)
            count += 1
        slots[node.output] = kept(node.output).pop()
        if reuse:
            unread = {node.output} - last.keys()
            for name in sorted({n for n in node.op.inputs if last[n] == i} | unread):
                kept(name).append(slots[name])
    return slots


def kind_of(program: Program, op: Conv2d, isa: Isa, registers: bool) -> Kind:
    """The fastest kernel whose operands and sums hold everything this convolution can meet;
    `registers`: whether its Requant is exact in high words."""
    weight = program.constants[op.weight].array
    lo, hi = program.proved_accumulator(op)
    type = program.tensors[op.input].type

    def fits(bits: int, signed: bool) -> bool:
        """Codes, weights of that width, and int32 sums."""
        return (
            IntType(bits, signed).holds(type.lo, type.hi)
            and IntType(bits, True).holds(int(weight.min()), int(weight.max()))
            and IntType(32, True).holds(int(lo.min()), int(hi.max()))
        )

    if narrowed(op, program) is not None and saturates(program.arithmetic, "mac"):
        return "exact"  # every product is clamped, in order
    if not fits(16, True):
        return "exact"
    unit = unit_of(isa)
    eight = fits(8, False) or fits(8, True)
    if apart(program, op):
        codes = IntType(8, False).holds(0, type.hi - type.lo)
        return "lanes" if unit is not None and registers and codes else "depthwise"
    if unit is None:
        return "words"
    # Sums of bytes are modulo 2^32: those of a signed type may begin anywhere.
    if not eight:
        return "pairs"
    if unit.tiles and registers and op.groups == 1:
        return "tiles"
    plain: Kind = "bytes" if unit.operand == "bytes" else "pairs"
    costs: dict[Kind, float] = {plain: 0.9 * plain_cost(program, op, unit)}
    for each in get_args(Tiled):
        form = FORMS[each]
        has = unit.bytes or form.operand == "words"
        if has and winograd_is_exact(program, op, form):
            costs[each] = winograd_cost(program, op, unit, form)
    return min(costs, key=lambda kind: costs[kind])


def apart(program: Program, op: Conv2d) -> bool:
    """Whether each channel is convolved by itself, to one."""
    cout, cin = program.constants[op.weight].array.shape[:2]
    return bool(op.groups == cout > 1 and cin == 1)


def winograd_is_exact(program: Program, op: Conv2d, form: Form) -> bool:
    """Whether a convolution of 8-bit codes and weights is 3x3 as `sim.winograd` makes it, with
    points and with sums of codes counted from their lowest that the form holds."""
    weight, type = program.constants[op.weight].array, program.tensors[op.input].type
    if weight.shape[2:] != (3, 3) or op.groups != 1 or narrowed(op, program) is not None:
        return False
    if op.stride != (1, 1) or op.dilation != (1, 1):
        return False
    span = type.hi - type.lo
    least, most = (f(weight, 0).sum(axis=(1, 2, 3)) * span for f in (np.minimum, np.maximum))
    if not form.sum.holds(int(least.min()), int(most.max())):
        return False
    return form.holds(span, weight)


def plain_cost(program: Program, op: Conv2d, unit: Unit) -> int:
    """Vector instructions of the plain window: multiplications, in whole blocks of pixels."""
    cout, cin = map(int, program.constants[op.weight].array.shape[:2])
    _, height, width = program.tensors[op.output].shape
    each = 4 if unit.operand == "bytes" else 2
    return whole(height * width, unit.pixels) * -(-cout // unit.lanes) * 3 * -(-3 * cin // each)


def winograd_cost(program: Program, op: Conv2d, unit: Unit, form: Form) -> int:
    """The same of tiles, with what a register of points and one of sums take in its transforms."""
    cout, cin = map(int, program.constants[op.weight].array.shape[:2])
    _, height, width = program.tensors[op.output].shape
    registers, tiles = -(-cout // unit.lanes), form.tiles(height, width)
    steps = -(-cin * form.each // 4)
    products = whole(tiles, unit.pixels) * registers * form.points * steps
    held = 4 * unit.lanes // form.each
    transforms = form.spread_cost * -(-cin // held) + form.gather_cost * registers
    return products + tiles * transforms


def whole(count: int, block: int) -> int:
    """count rounded up to whole blocks."""
    return -(-count // block) * block


def pieces(program: Program, op: Conv2d) -> int:
    """Pieces that a window's values lie in: kernel rows where each is contiguous, else taps."""
    kh, kw = map(int, program.constants[op.weight].array.shape[2:])
    return kh if op.groups == 1 and op.dilation[1] == 1 else kh * kw


def pack(weight: Ints, groups: int, pieces: int, kind: Kind, unit: Unit | None) -> Sums:
    """Weights for `winograd.conv`, `packed.conv`, for `kernels.conv` (groups, Cout / groups, K), or
    for `kernels.depthwise` (Kh * Kw, C)."""
    if unit is not None and kind in FORMS:
        return Sums(kind, winograd.pack(weight, unit, FORMS[kind]))
    if unit is not None and kind == "tiles":
        return Sums(kind, walk.pack(weight, pieces))
    if unit is not None and kind == "lanes":
        return Sums(kind, packed.pack_lanes(weight, unit.lanes))
    if unit is not None and (kind == "bytes" or kind == "pairs"):
        operand = packed.OPERANDS[kind]
        return Sums(kind, packed.pack(weight, groups, pieces, unit, operand))
    dtype = np.int64 if kind == "exact" else np.int16
    cout, cin, kh, kw = weight.shape
    if kind == "depthwise":
        return Sums(kind, np.ascontiguousarray(weight.reshape(cout, kh * kw).T, dtype=dtype))
    outs, k = cout // groups, kh * kw * cin
    rows = np.zeros((groups, outs + outs % 2, -(-k // ALIGN) * ALIGN), dtype=dtype)
    rows[:, :outs, :k] = weight.transpose(0, 2, 3, 1).reshape(groups, outs, k)
    return Sums(kind, rows)
