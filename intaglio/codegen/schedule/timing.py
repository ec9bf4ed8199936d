"""Cycles and queues: when every beat moves, exactly, without the data.

`tokens` gives the cycle in which the RTL takes each beat. From these come the frame interval, the
latency, the first beat of every output, and the depths and fillings of the queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from intaglio.codegen.schedule import tokens
from intaglio.codegen.structure.netlist import Cell, Netlist
from intaglio.errors import BuildError
from intaglio.hdl.fifo import Fifo, fifo_latency
from intaglio.hdl.stream import ceil_div
from intaglio.ops import Ints
from intaglio.sim.steps import called

SIMULATED, MOST = 4, 64  # frames from which the interval is read off: at least, and at most
START = 1  # the bench offers its first beat one cycle after reset
UNBOUNDED = 1 << 40
NO_PAUSES = np.zeros(0, dtype=np.int64)
CODES = {
    "source": tokens.SOURCE,
    "sink": tokens.SINK,
    "fifo": tokens.FIFO,
    "fork": tokens.FORK,
    "repack": tokens.REPACK,
    "mux": tokens.TAKE,
    "concat": tokens.TAKE,
    "demux": tokens.GIVE,
    "pad": tokens.PAD,
    "crop": tokens.CROP,
    "select": tokens.STEPS,
    "scale": tokens.PIPE,
    "lookup": tokens.PIPE,
    "add": tokens.PIPE,
    "multiply": tokens.PIPE,
    "conv": tokens.WINDOW,
    "sum": tokens.WINDOW,
    "max": tokens.WINDOW,
    "space_to_depth": tokens.WINDOW,
    "upsample": tokens.UPSAMPLE,
    "depth_to_space": tokens.UPSAMPLE,
    "interpolate": tokens.RESAMPLE,
}


@dataclass(frozen=True)
class Schedule:
    """What a run of the model shows, in cycles from reset.

    finished  cycle of each frame's last output beat, over all outputs; empty after a deadlock.
    peaks     most beats that each queue held, by cell index; empty unless asked for.
    taken     by wire, the cycle in which each of its beats is taken, frame after frame.
    """

    finished: tuple[int, ...]
    peaks: Mapping[int, int]
    taken: tuple[Ints, ...]

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
    """The token-time model of a netlist; `components` are its Amaranth components, by cell."""

    def __init__(self, netlist: Netlist, components: list[Any]) -> None:
        self.netlist = netlist
        most = max(len(w.key) for w in netlist.wires)
        most = max(most, *(len(c.ins) for c in netlist.cells))
        most = max(most, *(len(getattr(c, "steps", ())) for c in components))
        self.rows = np.zeros((len(netlist.cells), level_data(most, 0)), dtype=np.int64)
        self.walks: dict[int, list[tuple[int, int]]] = {}  # window: (height, beats a row) by level
        self.taps: dict[int, Ints] = {}  # of a resampling: first and last place of each row, column
        self.wires = np.zeros((len(netlist.wires), 7), dtype=np.int64)
        self.wires[:, [tokens.SOURCE_OF, tokens.READER_OF]] = -1
        for index, (row, cell) in enumerate(zip(self.rows, netlist.cells, strict=True)):
            wires = (*cell.ins, *cell.outs)
            if len(wires) > tokens.PORTS:
                raise BuildError(
                    f"{cell.name} must join at most {tokens.PORTS} streams, not {len(wires)}; split"
                    " the concatenation or the fork."
                )
            row[tokens.KIND] = code_of(cell, components[index])
            row[tokens.INS], row[tokens.OUTS] = len(cell.ins), len(cell.outs)
            row[tokens.WIRES : tokens.WIRES + len(wires)] = wires
            self.wires[list(cell.ins), tokens.READER_OF] = index
            looks = row[tokens.KIND] in tokens.LOOKING or cell.kind in ("add", "multiply")
            self.wires[list(cell.ins), tokens.LOOKED_AT] = looks
            self.wires[list(cell.outs), tokens.SOURCE_OF] = index
            self._fill(row, index, components[index])
        self.beats = np.array([self._beats(k) for k in range(len(netlist.wires))])
        self.late = {i: c.late for i, c in enumerate(components) if isinstance(c, Fifo)}

    def run(
        self,
        depths: Mapping[int, int],
        *,
        frames: int | None = None,
        period: int = 0,
        peaks: bool = False,
        seed: int | None = None,
    ) -> Schedule:
        """Whole frames back to back, or one every `period` cycles evenly spread.

        frames    how many; None: `frames`.
        depths    places of each queue, by cell index.
        seed      random pauses of up to 3, some of up to 63 cycles, before ports move a beat.
        """
        frames = self.frames if frames is None else frames
        _, done, taken = self._run(depths, frames, period, seed)
        if done < frames:
            return Schedule((), {}, taken)
        finished = np.max([taken[c.ins[0]].reshape(frames, -1)[:, -1]
                           for c in self.netlist.cells if c.kind == "sink"], axis=0)  # fmt: skip
        held = {i: self.peak(i, taken) for i in depths} if peaks else {}
        return Schedule(tuple(finished.tolist()), held, taken)

    @property
    def frames(self) -> int:
        """Frames from which the interval is read off: as many as it takes until no frame follows
        another faster than the slowest block can. The first may, where they come out of a long
        path and the slowest block is on a short one."""
        return self._unbounded[0]

    @property
    def free(self) -> Schedule:
        """That of so many frames with unbounded queues; `taken` is not kept."""
        return self._unbounded[1]

    @cached_property
    def _unbounded(self) -> tuple[int, Schedule]:
        floor = max(f.cycles for f in self.netlist.foldings)
        unbounded, frames = dict.fromkeys(self.netlist.fifos, UNBOUNDED), SIMULATED
        while True:
            schedule = self.run(unbounded, frames=frames)
            if frames >= MOST or not schedule.finished or schedule.interval >= floor:
                return frames, replace(schedule, taken=())
            frames *= 2

    def least_alive(self, depths: Mapping[int, int], index: int, frames: int) -> int:
        """The fewest places of queue `index` with which these frames come to an end."""
        rows, _, _ = self._run({**depths, index: 1}, frames, growing=index)
        return int(rows[index, tokens.PLACES])

    def _run(
        self,
        depths: Mapping[int, int],
        frames: int,
        period: int = 0,
        seed: int | None = None,
        growing: int = -1,
    ) -> tuple[Ints, int, tuple[Ints, ...]]:
        """The cells' numbers after a run, its whole frames, and when each wire's beats moved."""
        rows, wires = self.rows.copy(), self.wires.copy()
        for index, depth in depths.items():
            rows[index, tokens.PLACES] = depth
            rows[index, tokens.LATENCY] = fifo_latency(depth, late=self.late[index])
        rows[rows[:, tokens.KIND] == tokens.SOURCE, tokens.PERIOD] = period
        wires[:, tokens.TOTAL] = self.beats * frames
        ends = wires[:, tokens.TOTAL].cumsum()
        wires[:, tokens.BEGIN] = ends - wires[:, tokens.TOTAL]
        times = np.zeros(ends[-1], np.int64)
        pauses = NO_PAUSES if seed is None else random_pauses(seed, ends[-1])
        lines = self._lines(rows, frames)
        stack, state = np.zeros(len(rows), np.int64), np.zeros(1 + len(rows), np.int64)
        given = (rows.reshape(-1), rows.shape[1], wires, times, pauses, lines, stack, state)
        done = called(tokens.run, given, frames, growing)
        return rows, done, tuple(np.split(times, ends[:-1]))

    def peak(self, index: int, taken: tuple[Ints, ...]) -> int:
        """The most beats that queue `index` held."""
        cell = self.netlist.cells[index]
        ends = taken[cell.ins[0]], taken[cell.outs[0]]
        return called(tokens.fullest, ends)

    def _beats(self, wire: int) -> int:
        """Beats of a wire for one image."""
        w = self.netlist.wires[wire]
        shapes = [tensor.shape for tensor in self.netlist.graph.tensors(w.key)]
        return sum(h * w_ * ceil_div(c, w.lanes) for c, h, w_ in shapes)

    def _lines(self, rows: Ints, frames: int) -> Ints:
        """Of every row of every window: the beats before it, and a place for when it may come;
        behind them the places that resamplings read."""
        tables, at = [], 0
        for index, levels in self.walks.items():
            beats = np.concatenate([np.full(height, width) for height, width in levels])
            starts = np.concatenate([[0], np.tile(beats, frames).cumsum()])
            rows[index, tokens.FIRST_ROW] = at
            rows[index, tokens.ROW_COUNT] = len(starts) - 1
            tables.append(starts)
            at += len(starts)
        lines = [np.stack([np.concatenate([*tables, [0]]), np.zeros(at + 1, np.int64)], axis=1)]
        for index, places in self.taps.items():
            rows[index, tokens.TAPS] = sum(map(len, lines))
            lines.append(places)
        return np.concatenate(lines)

    def _fill(self, row: Ints, index: int, component: Any) -> None:
        """A cell's parameters, and state that does not start at 0."""
        netlist, cell = self.netlist, self.netlist.cells[index]
        wire = netlist.wires[(cell.ins or cell.outs)[0]]
        shapes = [tensor.shape for tensor in netlist.graph.tensors(wire.key)]
        channels, height, width = shapes[0]
        match cell.kind:
            case "source" | "sink":
                row[tokens.BEATS] = height * width * ceil_div(channels, wire.lanes)
                row[tokens.START] = START
            case "repack":
                row[tokens.FULL] = component.full
                row[tokens.LANES_IN], row[tokens.LANES_OUT] = (
                    component.lanes_in,
                    component.lanes_out,
                )
                row[tokens.PER_PIXEL], row[tokens.REST] = component.per_pixel, component.rest
                row[tokens.STORED] = -component.full
            case "mux" | "demux" | "concat":
                row[tokens.TURNS] = len(component.beats)
                for turn, beats in enumerate(component.beats):
                    row[level_data(turn, tokens.SIZE)] = beats
            case "pad":
                outer = component.out_frame
                row[tokens.WORDS] = ceil_div(channels, wire.lanes)
                row[tokens.TOP], row[tokens.LEFT] = component.padding[0], component.padding[2]
                row[tokens.INNER_H], row[tokens.INNER_W] = height, width
                row[tokens.OUTER_H], row[tokens.OUTER_W] = outer.height, outer.width
                row[tokens.STEP_Y] = row[tokens.STEP_X] = 1
            case "crop":
                (top, bottom, row[tokens.STEP_Y]) = component.rows
                (left, right, row[tokens.STEP_X]) = component.columns
                row[tokens.WORDS] = ceil_div(channels, wire.lanes)
                row[tokens.TOP], row[tokens.LEFT] = top, left
                row[tokens.INNER_H], row[tokens.INNER_W] = bottom - top, right - left
                row[tokens.OUTER_H], row[tokens.OUTER_W] = height, width
            case "select" if component.steps:
                row[tokens.TURNS] = len(component.steps)
                row[tokens.LEVEL_DATA : tokens.LEVEL_DATA + len(component.steps)] = component.steps
            case "scale" | "lookup" | "add" | "multiply":
                self._outlet(row, component.outlet, component.latency - 1)
                row[tokens.TOGETHER] = getattr(component, "period", 1)
                row[tokens.FRESH] = getattr(component, "fresh", 1)
            case (
                "conv"
                | "sum"
                | "max"
                | "upsample"
                | "select"
                | "space_to_depth"
                | "depth_to_space"
                | "interpolate"
            ):
                self._window(row, index, component)

    def _outlet(self, row: Ints, outlet: Any, delay: int) -> None:
        """The queue at the end of a pipeline."""
        row[tokens.PLACES] = outlet.depth
        row[tokens.LATENCY] = outlet.latency
        row[tokens.DELAY] = delay

    def _window(self, row: Ints, index: int, component: Any) -> None:
        """A line buffer and what walks over it."""
        cell = self.netlist.cells[index]
        row[tokens.PIXELS] = 1
        row[tokens.PASS_BEATS] = row[tokens.LAST_BEATS] = 1
        if cell.kind in ("upsample", "depth_to_space", "select"):
            self._outlet(row, component.outlet, component.latency - 2)
            buffer, frames, walked = component.buffer, [component.frame], [component.out_frame]
            row[tokens.PASS], row[tokens.PASSES] = 1, buffer.words
            if cell.kind == "depth_to_space":
                row[tokens.PASSES] = buffer.words // (component.block[0] * component.block[1])
            if cell.kind == "select":  # of pixels one after the other
                frames = walked = list(buffer.frames)
                row[tokens.PASSES] = len(component.words)
                row[tokens.STRIDE_Y] = row[tokens.STRIDE_X] = 1
            row[tokens.SPAN_Y] = row[tokens.SPAN_X] = 1
        elif cell.kind == "interpolate":
            self._outlet(row, component.outlet, component.latency - 1)
            buffer, frames, walked = component.buffer, [component.frame], [component.out_frame]
            row[tokens.PASS], row[tokens.PASSES] = component.taps, buffer.words
            self.taps[index] = np.concatenate([component.rows[:, :2], component.columns[:, :2]])
        else:
            window = component.window
            buffer, frames, walked = window.buffer, window.frames, window.walked
            geometry = window.geometry
            row[tokens.PASS] = window.pass_cycles
            row[tokens.PASSES] = window.cycles_per_pixel // window.pass_cycles
            row[tokens.PIXELS] = window.pixels
            row[tokens.ARRIVES], row[tokens.GOES] = window.arrives - 1, window.goes
            row[tokens.SPAN_Y], row[tokens.SPAN_X] = geometry.span
            row[tokens.STRIDE_Y], row[tokens.STRIDE_X] = geometry.stride
            row[tokens.SPAN_X] += (window.pixels - 1) * geometry.stride[1]
            row[tokens.ABOVE], row[tokens.BEFORE] = geometry.padding[0], geometry.padding[2]
            row[tokens.PASS_BEATS] = row[tokens.LAST_BEATS] = 1
            summed = cell.kind in ("conv", "sum")
            outlet = component.drain.outlet if summed else component.outlet
            self._outlet(row, outlet, component.latency - 1)
            if summed:
                row[tokens.PASS_BEATS] = component.drain.beats
                row[tokens.LAST_BEATS] = component.drain.last_beats
        row[tokens.ROWS], row[tokens.IN_WORDS] = buffer.rows, buffer.words
        row[tokens.LEVELS] = len(frames)
        row[tokens.ISSUED] = row[tokens.LAST_PUSH] = -1
        self.walks[index] = [(f.height, f.width * buffer.words) for f in frames]
        for level, (frame, out) in enumerate(zip(frames, walked, strict=True)):
            sizes = frame.height, frame.width, out.height, out.width
            row[level_data(level, 0) : level_data(level, tokens.GROUP)] = sizes


def code_of(cell: Cell, component: Any) -> int:
    """What a cell is in the model; a selection that holds pixels walks over them."""
    walks = cell.kind == "select" and not component.steps
    return tokens.WINDOW if walks else CODES[cell.kind]


def level_data(level: int, column: int) -> int:
    """Where a level's number lies in a cell's row."""
    return tokens.LEVEL_DATA + tokens.GROUP * level + column


def random_pauses(seed: int, beats: int) -> Ints:
    """Mostly none; one beat in eight waits for up to 3 or up to 63 cycles."""
    rng = np.random.default_rng(seed)
    longest = rng.choice([0] * 14 + [3, 63], size=beats)
    return np.asarray(rng.integers(0, longest, endpoint=True))


def best_interval(model: Model) -> int:
    """Cycles a frame with unbounded queues. Raises BuildError when even so nothing moves."""
    if not model.free.finished:
        raise BuildError("The design must not wait for itself, but its cycle model does.")
    return model.free.interval
