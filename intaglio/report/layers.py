"""What a report says of each layer: types, accumulator and its margin, work, folding, quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, log2
from typing import Any

from intaglio.codegen.structure.graph import (
    KINDS,
    Block,
    HardwareGraph,
    hardware_graph,
    links_between,
    live_ops,
    with_names,
)
from intaglio.errors import BuildError, DataError
from intaglio.ops import Conv2d, Interpolate, Output, SumPool2d, Tensor, Upsample
from intaglio.program import Program
from intaglio.summary import summarise

SIDES = (("weights", "weights"), ("tensor", "result"))  # whose values are counted
NEEDED = {"name", "op", "pe", "simd", "pixels", "cycles", "multipliers", "rom_bits", "fifo_depths"}


@dataclass(frozen=True)
class Quality:
    """What quantisation measured: the worst level's SQNR in dB and clipped share, and the p of the
    weights' and the codes' metric where one was chosen; how often values and codes were seen."""

    sqnr: float
    clipped: float
    weight_p: float | None
    p: float | None
    shares: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One block of the network.

    name      the tensor it makes, the first of several levels; `tensors` are all of them
    kind      of block: conv, add, ...; `window` its kernel and stride, "" without
    reads     the layers it reads, by index
    weights   their type, "odd2" for odd ones of 2 code bits, "" without
    acc_bits  width of the accumulator, `proved` the least and most bits that a channel can need,
              `margin` log2 of how much further the widest could reach; None without
    hardware  its row of a build's manifest
    """

    name: str
    kind: str
    window: str
    tensors: tuple[Tensor, ...]
    reads: tuple[int, ...]
    origin: str
    weights: str = ""
    acc_bits: int | None = None
    proved: tuple[int, int] | None = None
    margin: float | None = None
    macs: int = 0
    hardware: Mapping[str, Any] | None = None
    quality: Quality | None = None

    @property
    def shape(self) -> str:
        """12x24x24 (+2 levels)."""
        more = f" (+{len(self.tensors) - 1})" if len(self.tensors) > 1 else ""
        return "x".join(map(str, self.tensors[0].shape)) + more

    @property
    def type(self) -> str:
        """Of the codes."""
        return str(self.tensors[0].type)


def layers_of(
    program: Program,
    build: Mapping[str, Any] | None = None,
    quality: Mapping[str, Quality] | None = None,
) -> tuple[Layer, ...]:
    """The layers in the order of a build, which are engines that several levels may share.

    build    a manifest of this Program, for the folding.
    quality  by tensor, see `read_quality`.

    Raises BuildError for a manifest of another network.
    """
    try:
        engines = (build or {}).get("sharing", {}).get("engines", ())
        graph = hardware_graph(program, [tuple(engine["tensors"]) for engine in engines])
    except BuildError:  # what has no hardware can still be looked at
        graph = plain_graph(program)
    rows: Sequence[Mapping[str, Any] | None] = [None] * len(graph.blocks)
    if build is not None:
        rows = build["layers"]
        mine = [(block.origin, block.kind) for block in graph.blocks]
        if not all(row.keys() >= NEEDED for row in build["layers"]) or mine != [
            (row["name"], row["op"]) for row in build["layers"]
        ]:
            raise BuildError("The manifest must list the layers of its Program; build again.")
    facts = {row.tensor: row for row in summarise(program).rows}
    return tuple(layer(graph, index, facts, row, quality or {}) for index, row in enumerate(rows))


def plain_graph(program: Program) -> HardwareGraph:
    """A block for each operation."""
    blocks = [
        Block(op.output, KINDS[type(op)], tuple((name,) for name in op.inputs),
              () if isinstance(op, Output) else ((op.output,),), (op,))
        for op in live_ops(program)
    ]  # fmt: skip
    blocks = with_names(blocks)
    return HardwareGraph(program, tuple(blocks), tuple(links_between(blocks)))


def layer(
    graph: HardwareGraph,
    index: int,
    facts: Mapping[str, Any],
    hardware: Mapping[str, Any] | None,
    quality: Mapping[str, Quality],
) -> Layer:
    """The layer of one block."""
    block, program = graph.blocks[index], graph.program
    names = block.writes[0] if len(block.writes) == 1 else tuple(n for w in block.writes for n in w)
    names = names or tuple(op.output for op in block.ops)
    reads = tuple(graph.links[i].source for i in graph.inputs_of(index))
    seen = [quality[name] for name in names if name in quality] if block.ops else []
    made = Layer(
        name=names[0] if block.ops else block.name,
        kind=block.kind,
        window=window_text(block, program),
        tensors=graph.tensors(names),
        reads=tuple(dict.fromkeys(reads)),
        origin=block.origin,
        hardware=hardware,
        quality=worst(seen),
    )
    sums = [op for op in block.ops if isinstance(op, (Conv2d, SumPool2d))]
    if not sums:
        return made
    accs = [program.tensors[op.output] for op in sums]
    convs = [facts[op.output] for op in sums if isinstance(op, Conv2d)]
    weights = ""
    if isinstance(sums[0], Conv2d):
        constant = program.constants[sums[0].weight]
        weights = f"odd{constant.code_bits}" if constant.odd else str(constant.type)
    proved = (min(f.acc_bits_min for f in convs), max(f.acc_bits for f in convs)) if convs else None
    return replace(
        made,
        weights=weights,
        acc_bits=max(acc.type.bits for acc in accs),
        proved=proved,
        margin=min(margin(acc) for acc in accs),
        macs=sum(f.macs for f in convs),
    )


def margin(acc: Tensor) -> float:
    """How many more bits the proved range could take before it leaves the type; 99 for zero."""
    spans = [(acc.lo, acc.type.lo), (acc.hi, acc.type.hi)]
    return min((log2(end / has) for has, end in spans if has and has * end > 0), default=99.0)


def window_text(block: Block, program: Program) -> str:
    """3x3/2 of a window, x2 of an upsampling."""
    op = block.ops[0] if block.ops else None
    if isinstance(op, (Upsample, Interpolate)):
        _, height, _ = program.tensors[op.input].shape
        return f"x{op.size[0] / height:g}" if op.size[0] % height == 0 else ""
    kernel, stride = getattr(op, "kernel", None), getattr(op, "stride", (1, 1))
    if isinstance(op, Conv2d):
        kernel = program.constants[op.weight].array.shape[2:]
    if kernel is None:
        return ""
    size = f"{kernel[0]}x{kernel[1]}"
    if stride != (1, 1):
        size += f"/{stride[0]}" if stride[0] == stride[1] else f"/{stride[0]}x{stride[1]}"
    groups = getattr(op, "groups", 1)
    return f"{size} g{groups}" if groups > 1 else size


def worst(seen: Sequence[Quality]) -> Quality | None:
    """Of the levels of a layer."""
    if not seen:
        return None
    return Quality(
        min(q.sqnr for q in seen),
        max(q.clipped for q in seen),
        next((q.weight_p for q in seen if q.weight_p is not None), None),
        next((q.p for q in seen if q.p is not None), None),
        next((q.shares for q in seen if q.shares), {}),
    )


def read_shares(found: Any) -> dict[str, Any]:
    """A layer's entry of `intaglio quantize --json`, checked; empty where it has none. Raises
    ValueError, KeyError and TypeError for something else."""
    checked: dict[str, Any] = {}
    for key, _ in SIDES:
        if key in found:
            one = found[key]
            bars = {
                side: {"lo": float(one[side]["lo"]), "hi": float(one[side]["hi"]),
                       "counts": [float(c) for c in one[side]["counts"]]}
                for side in ("real", "codes")
            }  # fmt: skip
            checked[key] = {**bars, "lo": int(one["lo"]), "hi": int(one["hi"]),
                            "step": float(one["step"])}  # fmt: skip
            ends = [one["step"], *(v for side in bars.values() for v in (side["lo"], side["hi"]))]
            if not all(isfinite(v) for v in ends):
                raise ValueError("an end that is not finite")
    return checked


def read_quality(record: Any, program: Program, name: str) -> dict[str, Quality]:
    """By tensor, from what `intaglio quantize --json` writes, read from the file `name`.

    Raises DataError when it is something else or of another network.
    """
    try:
        found = {
            str(row["layer"]): Quality(
                float(row["sqnr"]),
                float(row["clipped"]),
                None if row.get("weight_p") is None else float(row["weight_p"]),
                None if row.get("p") is None else float(row["p"]),
                read_shares(row.get("shares", {})),
            )
            for row in record["layers"]
        }
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{name} must be what `intaglio quantize --json` writes, not another kind of JSON."
        ) from error
    strange = [layer for layer in found if layer not in program.tensors]
    if strange:
        raise DataError(
            f"{name} must describe this Program's layers, not {strange[0]!r}; give the file of the"
            " same run of `intaglio quantize`."
        )
    return found
