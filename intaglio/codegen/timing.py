"""Cycles and queues: when every beat moves, exactly, without the data.

`cells` models each component's handshake register by register, so that it counts the cycles that
the RTL takes. From it come the frame interval, the latency and the depths of the queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from intaglio.codegen import cells
from intaglio.codegen.netlist import Cell, Netlist
from intaglio.errors import BuildError
from intaglio.hdl.fifo import LUT_RAM_DEPTH
from intaglio.hdl.stream import ceil_div
from intaglio.ops import Ints

SIMULATED = 4  # frames from which the interval is read off
START = 1  # the bench offers its first beat one cycle after reset
UNBOUNDED = 1 << 40
PATIENCE = 4096  # cycles in which nothing happens
EFFORT = 100_000_000  # cycles times cells of simulation spent on shallower queues: seconds
JOINING = ("source", "add", "fork", "mux", "demux", "concat", "pad")  # see `cells.run`
CODES = {
    "source": cells.SOURCE,
    "sink": cells.SINK,
    "fifo": cells.FIFO,
    "fork": cells.FORK,
    "repack": cells.REPACK,
    "mux": cells.TAKE,
    "concat": cells.TAKE,
    "demux": cells.GIVE,
    "pad": cells.PAD,
    "scale": cells.PIPE,
    "lookup": cells.PIPE,
    "add": cells.PIPE,
    "conv": cells.WINDOW,
    "sum": cells.WINDOW,
    "max": cells.WINDOW,
    "upsample": cells.UPSAMPLE,
}


@dataclass(frozen=True)
class Schedule:
    """What a run of the model shows, in cycles from reset.

    finished  cycle of each frame's last output beat, over all outputs; empty after a deadlock.
    peaks     most beats that each queue held, by cell index.
    """

    finished: tuple[int, ...]
    peaks: Mapping[int, int]

    @property
    def interval(self) -> int:
        """Cycles per frame: the longest distance between the ends of two consecutive frames."""
        return max(b - a for a, b in pairwise(self.finished))

    def keeps(self, interval: int) -> bool:
        """Whether it came to an end and is as fast as `interval`."""
        return bool(self.finished) and self.interval <= interval

    @property
    def latency(self) -> int:
        """Cycles from reset to the first frame's last beat, with input offered at once."""
        return self.finished[0]


class Model:
    """The cycle model of a netlist; `components` are its Amaranth components, by cell."""

    def __init__(self, netlist: Netlist, components: list[Any]) -> None:
        self.netlist = netlist
        self.order = ordered(netlist)
        self.joining = sum(netlist.cells[i].kind not in JOINING for i in self.order)
        self.unread = np.ones(len(netlist.wires), dtype=np.bool_)
        self.unread[[wire for cell in netlist.cells for wire in cell.ins]] = False
        most = max(len(w.key) for w in netlist.wires)
        most = max(most, *(len(c.ins) for c in netlist.cells))
        self.rows = np.zeros((len(netlist.cells), level_data(most, 0)), dtype=np.int64)
        for row, index in zip(self.rows, self.order, strict=True):
            cell = netlist.cells[index]
            wires = (*cell.ins, *cell.outs)
            if len(wires) > cells.PORTS:
                raise BuildError(
                    f"{cell.name} must join at most {cells.PORTS} streams, not {len(wires)}; split"
                    " the concatenation or the fork."
                )
            row[cells.KIND] = CODES[cell.kind]
            row[cells.INS], row[cells.OUTS] = len(cell.ins), len(cell.outs)
            row[cells.WIRES : cells.WIRES + len(wires)] = wires
            self._fill(row, cell, components[index])

    def run(
        self, depths: Mapping[int, int], *, frames: int = SIMULATED, period: int = 0
    ) -> Schedule:
        """Simulate whole frames back to back, or one every `period` cycles evenly spread.

        depths  places of each queue, by cell index.
        """
        rows = self.rows.copy()
        place = {index: row for row, index in enumerate(self.order)}
        for index, depth in depths.items():
            rows[place[index], cells.PLACES] = depth
            rows[place[index], cells.LATENCY] = 1 if depth <= LUT_RAM_DEPTH else 2
        sources = rows[:, cells.KIND] == cells.SOURCE
        rows[sources, cells.FRAMES], rows[sources, cells.PERIOD] = frames, period
        finished = np.zeros((len(rows), frames), dtype=np.int64)
        flat = rows.reshape(-1)
        patience = period + PATIENCE
        cycles = cells.run(flat, rows.shape[1], self.joining, self.unread, finished, patience)
        peaks = {index: int(rows[place[index], cells.PEAK]) for index in depths}
        return Schedule(() if cycles < 0 else tuple(finished.max(axis=0).tolist()), peaks)

    def _fill(self, row: Ints, cell: Cell, component: Any) -> None:
        """A cell's parameters, and registers that do not start at 0."""
        netlist = self.netlist
        wire = netlist.wires[(cell.ins or cell.outs)[0]]
        shapes = [tensor.shape for tensor in netlist.graph.tensors(wire.key)]
        channels, height, width = shapes[0]
        match cell.kind:
            case "source" | "sink":
                row[cells.BEATS] = height * width * ceil_div(channels, wire.lanes)
                row[cells.START] = START
            case "repack":
                row[cells.FULL] = component.full
                row[cells.LANES_IN], row[cells.LANES_OUT] = component.lanes_in, component.lanes_out
                row[cells.PER_PIXEL], row[cells.REST] = component.per_pixel, component.rest
            case "mux" | "demux" | "concat":
                row[cells.TURNS] = len(component.beats)
                for turn, beats in enumerate(component.beats):
                    row[level_data(turn, cells.SIZE)] = beats
            case "pad":
                outer = component.out_frame
                row[cells.WORDS] = ceil_div(channels, wire.lanes)
                row[cells.TOP], row[cells.LEFT] = component.padding[0], component.padding[2]
                row[cells.INNER_H], row[cells.INNER_W] = height, width
                row[cells.OUTER_H], row[cells.OUTER_W] = outer.height, outer.width
            case "scale" | "lookup" | "add":
                self._outlet(row, component.outlet, component.latency - 1)
            case "conv" | "sum" | "max" | "upsample":
                self._window(row, cell, component)

    def _outlet(self, row: Ints, outlet: Any, delay: int) -> None:
        """The queue at the end of a pipeline."""
        row[cells.PLACES] = row[cells.FREE] = outlet.depth
        row[cells.LATENCY] = outlet.latency
        row[cells.DELAY] = delay

    def _window(self, row: Ints, cell: Cell, component: Any) -> None:
        """A line buffer and what walks over it."""
        if cell.kind == "upsample":
            self._outlet(row, component.outlet, component.latency - 2)
            buffer, frames, walked = component.buffer, [component.frame], [component.out_frame]
            row[cells.PASS], row[cells.PASSES] = 1, buffer.words
            row[cells.PASS_BEATS] = row[cells.LAST_BEATS] = 1
            row[cells.SPAN_Y] = row[cells.SPAN_X] = 1
        else:
            window = component.window
            buffer, frames, walked = window.buffer, window.frames, window.walked
            geometry = window.geometry
            row[cells.PASS] = window.pass_cycles
            row[cells.PASSES] = window.groups * window.repeats
            row[cells.SPAN_Y], row[cells.SPAN_X] = geometry.span
            row[cells.STRIDE_Y], row[cells.STRIDE_X] = geometry.stride
            row[cells.ABOVE], row[cells.BEFORE] = geometry.padding[0], geometry.padding[2]
            row[cells.PASS_BEATS] = row[cells.LAST_BEATS] = 1
            outlet = component.outlet if cell.kind == "max" else component.drain.outlet
            self._outlet(row, outlet, component.latency - 1)
            if cell.kind != "max":
                row[cells.PASS_BEATS] = component.drain.beats
                row[cells.LAST_BEATS] = component.drain.last_beats
        row[cells.ROWS], row[cells.IN_WORDS] = buffer.rows, buffer.words
        row[cells.LEVELS] = len(frames)
        for level, (frame, out) in enumerate(zip(frames, walked, strict=True)):
            sizes = frame.height, frame.width, out.height, out.width
            row[level_data(level, 0) : level_data(level, cells.GROUP)] = sizes


def level_data(level: int, column: int) -> int:
    """Where a level's number lies in a cell's row."""
    return cells.LEVEL_DATA + cells.GROUP * level + column


def ordered(netlist: Netlist) -> list[int]:
    """Cells for the model: first those with registers at their ports, then the combinational
    ones, each behind those that it reads."""
    driver = {wire: i for i, cell in enumerate(netlist.cells) for wire in cell.outs}
    order = [i for i, cell in enumerate(netlist.cells) if cell.kind not in JOINING]
    waiting = [i for i, cell in enumerate(netlist.cells) if cell.kind in JOINING]
    placed = set(order)
    while waiting:
        ready = [i for i in waiting if all(driver[w] in placed for w in netlist.cells[i].ins)]
        order += ready
        placed.update(ready)
        waiting = [i for i in waiting if i not in placed]
    return order


def size_queues(model: Model) -> tuple[dict[int, int], Schedule]:
    """Queue depths, by cell index, that cost no throughput, and the schedule with them.

    With unbounded queues the design takes its best interval. Frames offered evenly at that
    interval then show how many beats each queue must hold. That run is a schedule which the sized
    design can follow, so it can neither deadlock nor be slower, whatever pauses the ports make.
    """
    queues = model.netlist.fifos
    free = model.run(dict.fromkeys(queues, UNBOUNDED))
    if not free.finished:
        raise BuildError("The design must not wait for itself, but its cycle model does.")
    paced = model.run(dict.fromkeys(queues, UNBOUNDED), period=free.interval)
    depths = {i: max(2, peak) for i, peak in paced.peaks.items()}
    schedule = model.run(depths)
    while not schedule.keeps(free.interval):  # a deeper queue can be a cycle slower than modelled
        depths = {i: depth + ceil_div(depth, 16) for i, depth in depths.items()}
        schedule = model.run(depths)
    return trim(model, depths, schedule)


def trim(
    model: Model, depths: dict[int, int], schedule: Schedule
) -> tuple[dict[int, int], Schedule]:
    """Make each queue as shallow as it can be without losing throughput, the largest first.

    Deeper never hurts, so one pass leaves every queue at a minimum: a place less in any of them
    would cost cycles. Large designs stop after EFFORT and keep the depths they have by then.
    """
    widths = {i: model.netlist.wires[model.netlist.cells[i].ins[0]].width for i in depths}
    cost = schedule.finished[-1] * len(model.netlist.cells)
    left = EFFORT
    for i in sorted(depths, key=lambda i: (-depths[i] * widths[i], i)):
        low = 1  # too shallow, or the least there is
        while depths[i] - low > 1 and left > 0:
            middle = (low + depths[i]) // 2
            tried = model.run({**depths, i: middle})
            left -= cost
            if tried.keeps(schedule.interval):
                depths[i], schedule = middle, tried
            else:
                low = middle
    return depths, schedule
