"""Program to hardware graph: which block runs which operations, and which streams join them.

A stream carries a tuple of tensors, one whole frame after the other: one tensor for most blocks,
one per level for an engine that several levels of a pyramid, or several convolutions, share. A
tuple names its stream, so that two readers that want the same tuple get the same stream and a fork.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from intaglio.errors import BuildError
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Tensor,
    Upsample,
)
from intaglio.program import Program
from intaglio.system.names import shortened

Key = tuple[str, ...]  # tensors of one stream, in the order of their frames
Kind = Literal[
    "source", "sink", "conv", "sum", "max", "add", "scale", "upsample", "concat", "pad", "lookup",
    "select", "crop", "space_to_depth", "depth_to_space", "multiply", "interpolate", "mux",
    "demux",
]  # fmt: skip

IDENTIFIER = 48  # characters of a block's name, without its kind
KINDS: dict[type[Op], Kind] = {
    Input: "source",
    Output: "sink",
    Conv2d: "conv",
    SumPool2d: "sum",
    MaxPool2d: "max",
    Add: "add",
    Requant: "scale",
    Upsample: "upsample",
    Concat: "concat",
    Pad: "pad",
    Lookup: "lookup",
    Select: "select",
    Crop: "crop",
    SpaceToDepth: "space_to_depth",
    DepthToSpace: "depth_to_space",
    Multiply: "multiply",
    Interpolate: "interpolate",
}


@dataclass(frozen=True)
class Block:
    """One hardware block.

    ops       one operation per level, in the order of their frames; none for mux and demux.
    requants  what follows each `ops` entry of a conv, sum or multiply block.
    reads     streams consumed, one per input port.
    writes    streams produced, one per output port (only demux has several).
    """

    name: str
    kind: Kind
    reads: tuple[Key, ...]
    writes: tuple[Key, ...]
    ops: tuple[Op, ...] = ()
    requants: tuple[Requant, ...] = ()

    @property
    def origin(self) -> str:
        """The torch module path of the first operation, or the block's name."""
        return next((op.origin for op in (*self.ops, *self.requants) if op.origin), self.name)

    @property
    def weights(self) -> tuple[str, ...]:
        """The different weight constants of a convolution, by their first level."""
        return tuple(dict.fromkeys(op.weight for op in self.ops if isinstance(op, Conv2d)))

    @property
    def origins(self) -> tuple[str, ...]:
        """The torch module paths of all operations, or what they make where there is none."""
        return tuple(dict.fromkeys(op.origin or op.output for op in self.ops))


@dataclass(frozen=True)
class Link:
    """A point-to-point stream from output `port` of one block to input `entry` of another.

    Blocks are given by their index in the graph. `branch` numbers the readers of one stream.
    """

    key: Key
    source: int
    port: int
    branch: int
    reader: int
    entry: int


@dataclass(frozen=True)
class HardwareGraph:
    """Blocks and the links between them."""

    program: Program
    blocks: tuple[Block, ...]
    links: tuple[Link, ...]

    def tensors(self, key: Key) -> tuple[Tensor, ...]:
        """The tensors of a stream."""
        return tuple(self.program.tensors[name] for name in key)

    def inputs_of(self, block: int) -> tuple[int, ...]:
        """Indices of the links that a block reads, by port."""
        found = [i for i, link in enumerate(self.links) if link.reader == block]
        return tuple(sorted(found, key=lambda i: self.links[i].entry))

    def readers_of(self, block: int, port: int = 0) -> tuple[int, ...]:
        """Indices of the links that an output port feeds, by branch."""
        links = enumerate(self.links)
        return tuple(i for i, link in links if (link.source, link.port) == (block, port))


def hardware_graph(program: Program, sharing: Sequence[Key] = ()) -> HardwareGraph:
    """Map a Program. Raises BuildError for operations and arithmetic that no block runs.

    sharing  what engines of several convolutions write, see `share.sharings`.
    """
    if program.arithmetic.product == "single":
        raise BuildError(
            f"A Program to be built must multiply integers, not in float32 as"
            f" {program.arithmetic.name!r} does, for which there is no block; quantise the model"
            " again with --arithmetic tosa."
        )
    blocks = engines(program, live_ops(program))
    for key in sharing:
        blocks = with_joined(blocks, key)
    blocks = route(blocks)
    blocks = with_names(blocks)
    return HardwareGraph(program, tuple(blocks), tuple(links_between(blocks)))


def live_ops(program: Program) -> list[Op]:
    """The operations that some Output depends on, in program order; the Input always."""
    wanted = {op.output for op in program.ops if isinstance(op, (Input, Output))}
    for op in reversed(program.ops):
        if op.output in wanted:
            wanted.update(op.inputs)
    return [op for op in program.ops if op.output in wanted]


def engines(program: Program, ops: Sequence[Op]) -> list[Block]:
    """Blocks without routing: one per operation, or one per weight constant that levels share."""
    followers = followers_of(program, ops)
    singles = []
    for op in ops:
        follower = followers.get(op.output)
        if isinstance(op, Requant) and op.input in followers:
            continue
        made = follower.output if follower else op.output
        writes: tuple[Key, ...] = () if isinstance(op, Output) else ((made,),)
        reads = tuple((name,) for name in op.inputs)
        requants = (follower,) if follower else ()
        if type(op) not in KINDS:
            raise BuildError(
                f"{type(op).__name__} {op.output!r} must be an operation that has a hardware block;"
                " see docs/adding_an_op.md."
            )
        singles.append(Block(made, KINDS[type(op)], reads, writes, (op,), requants))
    return share(program, singles)


def followers_of(program: Program, ops: Sequence[Op]) -> dict[str, Requant]:
    """The Requant behind each sum or product: there must be exactly one."""
    found: dict[str, Requant] = {}
    live = {op.output for op in ops}
    for op in ops:
        if not isinstance(op, (Conv2d, SumPool2d, Multiply)):
            continue
        readers = [r for r in program.consumers[op.output] if r.output in live]
        if len(readers) != 1 or not isinstance(readers[0], Requant):
            names = ", ".join(type(r).__name__ for r in readers)
            raise BuildError(
                f"{type(op).__name__} {op.output!r} must be read by exactly one Requant, not by"
                f" {names}; requantise before using the value twice."
            )
        found[op.output] = readers[0]
    return found


def share(program: Program, singles: Sequence[Block]) -> list[Block]:
    """Merge the convolutions that name one weight constant, unless their frames then wait for
    each other in a circle."""
    groups: dict[object, list[Block]] = {}
    for block in singles:
        groups.setdefault(sharing_key(program, block), []).append(block)
    while True:
        merged = [merge(program, group) for group in groups.values()]
        stuck = waiting_in_circle(merged)
        if not stuck:
            return merged
        name = stuck[0].name
        key = next(k for k, group in groups.items() if any(b.name == name for b in group))
        groups.update({(key, n): [block] for n, block in enumerate(groups.pop(key))})


def sharing_key(program: Program, block: Block) -> object:
    """Blocks of equal key run on one engine."""
    op = block.ops[0]
    if not isinstance(op, Conv2d):
        return block.name, block.kind
    types = program.tensors[op.input].type, program.tensors[block.name].type
    (requant,) = block.requants
    return op.weight, op.stride, op.dilation, op.padding, op.groups, types, requant.rounding


def merge(program: Program, group: Sequence[Block]) -> Block:
    """One block whose levels are the group's, largest map first."""

    def size(block: Block) -> int:
        _, h, w = program.tensors[block.name].shape
        return -h * w

    group = sorted(group, key=size)
    if len(group) == 1:
        return group[0]
    return joined(group, tuple(b.name for b in group))


def with_joined(blocks: Sequence[Block], key: Key) -> list[Block]:
    """With one engine, where the first of them stood, for the convolutions that write `key`."""
    group = [b for b in blocks if b.kind == "conv" and not set(b.writes[0]).isdisjoint(key)]
    if sorted(name for b in group for name in b.writes[0]) != sorted(key):
        raise BuildError(
            f"The engine of {', '.join(key)} must share whole convolutions of its Program; build"
            " again."
        )
    made = joined(group, key)
    return [made if b is group[0] else b for b in blocks if b not in group[1:]]


def joined(group: Sequence[Block], key: Key) -> Block:
    """One engine for several blocks; its levels, with their weights, in the order of `key`."""
    levels = {
        name: (block.reads[0][k], block.ops[k], block.requants[k])
        for block in group
        for k, name in enumerate(block.writes[0])
    }
    reads, ops, requants = zip(*(levels[name] for name in key), strict=True)
    return replace(group[0], name=key[0], reads=(reads,), writes=(key,), ops=ops, requants=requants)


def sharing_text(record: Mapping[str, Any]) -> str:
    """What a manifest's `sharing` says, in sentences; "" when it says nothing."""
    engines = "; ".join(", ".join(engine["layers"]) for engine in record["engines"])
    return " ".join(filter(None, (f"One engine each: {engines}." if engines else "",
                                  record["why"])))  # fmt: skip


def waiting_in_circle(blocks: Sequence[Block]) -> list[Block]:
    """Shared engines whose frames cannot be put in an order; empty when all can.

    A frame needs the frames it reads, and the frame that the same engine takes before it.
    """
    needs: dict[str, set[str]] = {}
    for block in blocks:
        names = block.writes[0] if block.writes else (block.ops[0].output,)
        for level, name in enumerate(names):
            needs[name] = {key[level] for key in block.reads}
            if level:
                needs[name].add(names[level - 1])
    while ready := {name for name, on in needs.items() if not on}:
        needs = {name: on - ready for name, on in needs.items() if name not in ready}
    return [b for b in blocks if len(b.ops) > 1 and not needs.keys().isdisjoint(b.writes[0])]


def route(blocks: Sequence[Block]) -> list[Block]:
    """Add the muxes and demuxes between streams of one tensor and streams of several."""
    made: dict[Key, Block] = {key: block for block in blocks for key in block.writes}
    bundles = {name: key for key in made if len(key) > 1 for name in key}
    added: list[Block] = []

    def provide(key: Key) -> None:
        if key in made:
            return
        if len(key) == 1:
            bundle = bundles[key[0]]
            block = Block(bundle[0], "demux", (bundle,), tuple((name,) for name in bundle))
        else:
            for name in key:
                provide((name,))
            block = Block(key[0], "mux", tuple((name,) for name in key), (key,))
        added.append(block)
        made.update(dict.fromkeys(block.writes, block))

    for block in blocks:
        for key in block.reads:
            provide(key)
    return [*blocks, *added]


def links_between(blocks: Sequence[Block]) -> Iterable[Link]:
    """Every read of every block, numbered among the readers of its stream."""
    made = {key: (b, p) for b, block in enumerate(blocks) for p, key in enumerate(block.writes)}
    count: dict[Key, int] = {}
    for reader, block in enumerate(blocks):
        for entry, key in enumerate(block.reads):
            source, port = made[key]
            branch = count.get(key, 0)
            count[key] = branch + 1
            yield Link(key, source, port, branch, reader, entry)


def with_names(blocks: Sequence[Block]) -> list[Block]:
    """Names that are legal and unique in Verilog, whatever the tensors are called."""
    taken: set[str] = set()
    renamed = []
    for block in blocks:
        name = unique(f"{identifier(block.name)}_{block.kind}", taken)
        renamed.append(replace(block, name=name))
    return renamed


def identifier(text: str) -> str:
    """Letters, digits and single underscores; begins with a letter; with `m_axis_` before and
    `_tdata` behind it still of 64 characters at most."""
    text = re.sub(r"[^0-9a-zA-Z]+", "_", text).strip("_").lower()
    text = re.sub("_+", "_", shortened(text, IDENTIFIER))
    return text if text[:1].isalpha() else f"n{text}"


def unique(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3`, ... if it is taken; the result is taken from now on."""
    candidate, n = name, 2
    while candidate in taken:
        candidate, n = f"{name}_{n}", n + 1
    taken.add(candidate)
    return candidate
