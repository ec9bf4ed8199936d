# amaranth: UnusedElaboratable=no
"""Netlist to Amaranth: every cell a component, every wire a connection, AXI4-Stream at the edge.

Designs are made to be measured before their queues are sized, and may be refused: hence the first
line, which tells Amaranth not to warn of components that are never elaborated.
"""

from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

import numpy as np
from amaranth.hdl import Elaboratable, Module, Signal

from intaglio.codegen.area.blocks import memories_of
from intaglio.codegen.area.devices import Family
from intaglio.codegen.area.mapping import RULES, bank_words, circle, style_of
from intaglio.codegen.structure.constants import accumulator, requantised
from intaglio.codegen.structure.netlist import Cell, Netlist
from intaglio.codegen.structure.ports import FRAME_ERROR, Port, ports_of
from intaglio.hdl.add import Add as AddBlock
from intaglio.hdl.axis import AxisReceiver, AxisSender
from intaglio.hdl.concat import Concat as ConcatBlock
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.crop import Crop as CropBlock
from intaglio.hdl.depth import DepthToSpace as DepthToSpaceBlock
from intaglio.hdl.depth import SpaceToDepth as SpaceToDepthBlock
from intaglio.hdl.depthwise import DepthwiseEngine
from intaglio.hdl.fifo import Fifo
from intaglio.hdl.fork import Fork
from intaglio.hdl.interpolate import Interpolate as InterpolateBlock
from intaglio.hdl.levels import LevelDemux, LevelMux
from intaglio.hdl.lookup import Lookup as LookupBlock
from intaglio.hdl.multiply import Multiply as MultiplyBlock
from intaglio.hdl.pad import Pad as PadBlock
from intaglio.hdl.pool import MaxPool, SumPool
from intaglio.hdl.repack import Repack
from intaglio.hdl.requant import Scale
from intaglio.hdl.rom import Rom
from intaglio.hdl.select import Select as SelectBlock
from intaglio.hdl.stream import Frame
from intaglio.hdl.upsample import Upsample as UpsampleBlock
from intaglio.ops import (
    Add,
    Conv2d,
    Crop,
    DepthToSpace,
    Interpolate,
    Lookup,
    MaxPool2d,
    Multiply,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
    rounding_of,
)

Component = Any  # a wiring.Component; Amaranth gives its ports no static types
Parts = dict[Hashable, Component]  # those made so far for designs of one graph and family


class Top(Elaboratable):  # type: ignore[misc]  # Amaranth is untyped
    """The whole design.

    family      of the target, by which memories are told what to be made of.
    parts       components of equal cells are taken from there, and those made here added. Of the
                designs that share them only one can be elaborated.
    roms        every ROM of the design; `file` says where it is loaded from.
    """

    def __init__(
        self, netlist: Netlist, family: Family = "generic", parts: Parts | None = None
    ) -> None:
        self.family = family
        self.source, self.sinks = ports_of(netlist)
        self.netlist = netlist
        self._parts = {} if parts is None else parts
        self.pins = {
            f"{port.name}_{wire}": Signal(width, name=f"{port.name}_{wire}")
            for port in (self.source, *self.sinks)
            for wire, width in (("tdata", port.data_width), ("tvalid", 1), ("tready", 1),
                                ("tlast", 1))
        }  # fmt: skip
        self.pins[FRAME_ERROR] = Signal(name=FRAME_ERROR)

    @cached_property
    def components(self) -> list[Component]:
        """Of every cell."""
        return [self.component(index) for index in range(len(self.netlist.cells))]

    def component(self, index: int) -> Component:
        """Of one cell, made when it is asked for."""
        n, cell = self.netlist, self.netlist.cells[index]
        wires = tuple(n.wires[w] for w in (*cell.ins, *cell.outs))
        whole = cell.name, cell.kind, cell.block, cell.depth, n.foldings[cell.block], wires
        if whole not in self._parts:
            self._parts[whole] = self._component(cell)
        return self._parts[whole]

    def set_depths(self, depths: Mapping[int, int]) -> None:
        """Give the queues other depths, by cell index."""
        components = self.components
        self.netlist = self.netlist.with_depths(depths)
        for index in depths:
            components[index] = self.component(index)

    @property
    def roms(self) -> Iterator[Rom]:
        """Every ROM, in the order of the cells."""
        for component in self.components:
            yield from getattr(component, "roms", ())

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        starts: dict[int, Any] = {}
        ends: dict[int, Any] = {}
        for cell, component in zip(self.netlist.cells, self.components, strict=True):
            m.submodules[cell.name] = component
            starts.update(zip(cell.outs, self._outputs(m, cell, component), strict=True))
            ends.update(zip(cell.ins, self._inputs(m, cell, component), strict=True))
        for index, start in starts.items():
            if index not in ends:  # a level that nothing reads
                m.d.comb += start.ready.eq(1)
                continue
            end = ends[index]
            m.d.comb += [
                end.payload.eq(start.payload),
                end.valid.eq(start.valid),
                start.ready.eq(end.ready),
            ]
        return m

    def _inputs(self, m: Module, cell: Cell, component: Component) -> list[Any]:
        """The component's input streams, in the order of the cell's wires."""
        if cell.kind == "source":
            self._pins(m, self.source, component.i, receive=True)
            m.d.comb += self.pins[FRAME_ERROR].eq(component.error)
            return []
        if cell.kind in ("add", "multiply"):
            return [component.a, component.b]
        return list(component.i) if cell.kind in ("mux", "concat") else [component.i]

    def _outputs(self, m: Module, cell: Cell, component: Component) -> list[Any]:
        """The component's output streams."""
        if cell.kind == "sink":
            self._pins(m, self._sink(cell), component.o, receive=False)
            return []
        return list(component.o) if cell.kind in ("demux", "fork") else [component.o]

    def _pins(self, m: Module, port: Port, axis: Any, *, receive: bool) -> None:
        """Join a component's AXI4-Stream to the top's pins."""
        forward = [(getattr(axis, w), self.pins[f"{port.name}_{w}"])
                   for w in ("tdata", "tvalid", "tlast")]  # fmt: skip
        back = [(self.pins[f"{port.name}_tready"], axis.tready)]
        for inside, pin in forward + back:
            m.d.comb += inside.eq(pin) if receive else pin.eq(inside)

    def _sink(self, cell: Cell) -> Port:
        """The port of a sink cell."""
        name = self.netlist.graph.blocks[cell.block].ops[0].output
        return next(port for port in self.sinks if port.tensor == name)

    def _component(self, cell: Cell) -> Component:
        """The component that a cell stands for, its memories styled and sized."""
        component = self._plain_component(cell)
        suit_memories(component, self.family)
        return component

    def _plain_component(self, cell: Cell) -> Component:
        """The component of a cell."""
        n = self.netlist
        wire = n.wires[(cell.ins or cell.outs)[0]]
        frames = [Frame(*tensor.shape) for tensor in n.graph.tensors(wire.key)]
        bits = wire.type.bits
        if cell.kind == "fork":
            return Fork(width=wire.width, n=len(cell.outs))
        if cell.kind == "fifo":
            late = RULES[self.family].hard.late
            return Fifo(width=wire.width, depth=cell.depth, late=late)
        if cell.kind == "repack":
            return Repack(
                channels=frames[0].channels,
                bits=bits,
                lanes_in=wire.lanes,
                lanes_out=n.wires[cell.outs[0]].lanes,
            )
        if cell.kind == "source":
            return AxisReceiver(width=wire.width, beats=self.source.beats)
        if cell.kind == "sink":
            return AxisSender(width=wire.width, beats=self._sink(cell).beats)
        if cell.kind == "mux":
            key = n.wires[cell.outs[0]].key
            frames = [Frame(*tensor.shape) for tensor in n.graph.tensors(key)]
            return LevelMux(frames=frames, lanes=wire.lanes, bits=bits)
        if cell.kind == "demux":
            return LevelDemux(frames=frames, lanes=wire.lanes, bits=bits)
        return block_component(n, cell, frames, self.family)


def block_component(n: Netlist, cell: Cell, frames: list[Frame], family: Family) -> Component:
    """The component of a cell that runs operations of the Program."""
    program, block, folding = n.graph.program, n.graph.blocks[cell.block], n.foldings[cell.block]
    ins = [n.wires[w] for w in cell.ins]
    x, y, lanes = ins[0].type, n.wires[cell.outs[0]].type, ins[0].lanes
    op, rom, hard = block.ops[0], f"rom/{cell.name}", RULES[family].hard
    scalings, rounding = requantised(program, block)
    match op:
        case Conv2d():
            return conv_component(n, cell, frames, family)
        case Add():
            return AddBlock(
                lanes=lanes,
                a_type=x,
                b_type=ins[1].type,
                y=y,
                multiplier_a=op.multiplier_a,
                multiplier_b=op.multiplier_b,
                bias=op.bias,
                shift=op.shift,
                lo=op.lo,
                hi=op.hi,
                offset=op.offset,
                rounding=rounding_of(op, program.arithmetic),
            )
        case Requant():
            return Scale(
                frames=frames,
                lanes=lanes,
                x=x,
                y=y,
                scalings=scalings,
                rounding=rounding,
                hard=hard,
                rom=rom,
            )
        case MaxPool2d():
            return MaxPool(
                frames=frames,
                kernel=op.kernel,
                x=x,
                lanes=lanes,
                **op.sliding,
            )
        case SumPool2d():
            return SumPool(
                frames=frames,
                kernel=op.kernel,
                x=x,
                y=y,
                scalings=scalings,
                rounding=rounding,
                lanes=lanes,
                out_lanes=folding.out_lanes,
                **op.sliding,
                pad_value=op.pad_value,
                hard=hard,
                rom=rom,
            )
        case Multiply():
            (gate,) = n.graph.tensors(ins[1].key)
            return MultiplyBlock(
                frame=frames[0],
                gate=Frame(*gate.shape),
                lanes=lanes,
                a_type=x,
                b_type=ins[1].type,
                zeros=(op.zero_a, op.zero_b),
                x=program.tensors[op.output].type,
                y=y,
                scaling=scalings[0],
                rounding=rounding,
                hard=hard,
                rom=rom,
            )
        case Upsample():
            return UpsampleBlock(frame=frames[0], size=op.size, lanes=lanes, bits=x.bits)
        case Pad():
            return PadBlock(frame=frames[0], padding=op.padding, value=op.value, x=x, lanes=lanes)
        case Lookup():
            tables = np.atleast_2d(program.constants[op.table].array).tolist()
            return LookupBlock(tables=tables, x=x, y=y, lanes=lanes, rom=rom)
        case Select():
            return SelectBlock(
                frame=frames[0], channels=op.channels, value=op.value, x=x, lanes=lanes
            )
        case Crop():
            return CropBlock(
                frame=frames[0], rows=op.rows, columns=op.columns, lanes=lanes, bits=x.bits
            )
        case SpaceToDepth():
            return SpaceToDepthBlock(frame=frames[0], block=op.block, x=x, lanes=lanes)
        case DepthToSpace():
            return DepthToSpaceBlock(frame=frames[0], block=op.block, lanes=lanes, bits=x.bits)
        case Interpolate():
            return InterpolateBlock(
                frame=frames[0], rows=op.rows, columns=op.columns, x=x, y=y, lanes=lanes, rom=rom
            )
    channels = [n.graph.tensors(wire.key)[0].shape[0] for wire in ins]
    return ConcatBlock(channels=channels, lanes=lanes, bits=x.bits)


def suit_memories(component: Component, family: Family) -> None:
    """Style and size the memories of a component for a family."""
    for memory, storage in memories_of(component):
        if memory.style == "auto" and RULES[family].styled:
            memory.style = style_of(storage, family)
        if storage.kind == "banks" and memory.style == "block":
            memory.bank = bank_words(storage, family)
        if storage.kind == "circle" and circle(storage, family).depth > storage.depth:
            memory.round_up()


def conv_component(n: Netlist, cell: Cell, frames: list[Frame], family: Family) -> Component:
    """A convolution engine, dense, grouped or depthwise."""
    block, folding = n.graph.blocks[cell.block], n.foldings[cell.block]
    op = cast(Conv2d, block.ops[0])
    weight = n.graph.program.constants[op.weight]
    convs = [o for o in block.ops if isinstance(o, Conv2d)]
    scalings, rounding = requantised(n.graph.program, block)
    common: dict[str, Any] = {
        "frames": frames,
        "weights": np.stack([n.graph.program.constants[name].array for name in block.weights]),
        "sets": [block.weights.index(o.weight) for o in convs],
        "x": n.wires[cell.ins[0]].type,
        "w": weight.type,
        "odd": weight.odd,
        "form": folding.form,
        "y": n.wires[cell.outs[0]].type,
        "accumulator": accumulator(n.graph.program, block),
        "scalings": scalings,
        "rounding": rounding,
        "out_lanes": folding.out_lanes,
        "pad_values": [o.pad_value for o in convs],
        "pixels": folding.pixels,
        "hard": RULES[family].hard,
        "rom": f"rom/{cell.name}",
        **op.sliding,
    }
    engine = (
        DepthwiseEngine(lanes=folding.simd, **common)
        if folding.depthwise
        else ConvEngine(simd=folding.simd, pe=folding.pe, groups=op.groups, **common)
    )
    assert engine.weights is not None
    engine.weights.style = folding.weights
    return engine
