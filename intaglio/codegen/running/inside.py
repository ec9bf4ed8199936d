"""Looking inside: a bench in which every stream between blocks is compared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.codegen.folder.bench import EVENTS, STREAMS
from intaglio.codegen.running.queued import Queue, queues_of, wrong_queues
from intaglio.codegen.structure.streams import Stream, nets
from intaglio.cosim.port import Port
from intaglio.cosim.protocol import Fault
from intaglio.file import load
from intaglio.fixed import IntType
from intaglio.hdl.pack import hex_text
from intaglio.sim.engine import Simulator
from intaglio.system.disk import empty_folder, write_text

FOLDER = "sim/inside"
BENCH = f"{FOLDER}/bench.v"


@dataclass(frozen=True)
class Inside:
    """The first stream between blocks that is wrong: of the block `driver` of a `layer`, read by
    `reader`; None where all of them are right, and what is wrong lies behind the last.

    block    the one that it is laid to: the driver, or a reader that does not take what is offered.
    place    tensor, frame, channel, y and x, as words; cycle counts from the reset before `run`.
    queues   sentences about those that overflow, or are filled otherwise than predicted.
    """

    streams: int
    driver: str | None = None
    layer: str = ""
    reader: str = ""
    run: int = 0
    cycle: int = 0
    place: str = ""
    wrong: str = ""
    block: str = ""
    queues: tuple[str, ...] = ()

    def sentence(self) -> str:
        """For people."""
        return " ".join([self.first(), *self.queues[:3]])

    def first(self) -> str:
        """The first stream that is wrong."""
        if self.driver is None:
            return f"Inside, all {self.streams} streams between blocks are right."
        return (
            f"First wrong inside, of {self.streams} streams between blocks: {self.driver} (layer"
            f" {self.layer}) to {self.reader}: run {self.run}, {self.place}cycle {self.cycle}:"
            f" {self.wrong}{f' ({self.block})' * (self.block != self.driver)}."
        )


@dataclass(frozen=True)
class Watched:
    """A stream that is looked at: its number, ports for its tensors in turn, the beats that are
    expected, and its nets."""

    number: int
    stream: Stream
    ports: tuple[Port, ...]
    beats: Sequence[int]
    signals: tuple[str, str, str]

    @property
    def frame(self) -> int:
        """Beats of a frame."""
        return sum(port.beats for port in self.ports)

    @property
    def width(self) -> int:
        """Payload bits."""
        return self.ports[0].lanes * self.ports[0].type.bits

    def text(self) -> str:
        """Beats and masks in turn, by $readmemh."""
        whole = (1 << self.width) - 1
        masks = [mask & whole for port in self.ports for mask in self.masks(port)]
        words = [
            word for n, beat in enumerate(self.beats) for word in (beat, masks[n % len(masks)])
        ]
        return hex_text(words, self.width)

    def masks(self, port: Port) -> list[int]:
        """Of one frame of a tensor."""
        return port.masks() * (port.shape[1] * port.shape[2])

    def verilog(self) -> str:
        """What looks at it, in the bench."""
        payload, valid, ready = self.signals
        files = f'.FILE("{FOLDER}/{self.number}.hex"), .TIMES("{FOLDER}/{self.number}.times.hex")'
        return (
            f"  bench_inside #(.WIDTH({self.width}), .DEPTH({len(self.beats)}),"
            f" .TIMED({len(self.stream.cycles)}),\n    {files}, .NUMBER({self.number}))\n"
            f"    inside_{self.number} (.clk(clk), .rst(reset), .file(events), .run(run),"
            f" .cycle(cycle),\n    .timed(timed), .stuck(stuck), .payload({payload}),"
            f" .valid({valid}), .ready({ready}));\n"
        )

    def located(self, beat: int, got: str) -> tuple[str, str]:
        """Where beat number `beat` of a run is, and what is wrong with it."""
        frame, rest = divmod(beat, self.frame)
        wanted = self.beats[beat % len(self.beats)]
        for port in self.ports:
            if rest < port.beats:
                break
            rest -= port.beats
        _, channel, y, x = port.locate(rest)
        head = f"{port.tensor}, frame {frame}"
        if set(got) & set("xXzZ"):
            return f"{head}, channel {channel}, y {y}, x {x}, ", "undefined bits"
        pairs = zip(port.unpack(int(got, 16)), port.unpack(wanted), strict=True)
        for lane, (a, b) in enumerate(pairs):
            if a != b and channel + lane < port.shape[0]:
                where = f"{head}, channel {channel + lane}, y {y}, x {x}, "
                return where, f"got {a}, expected {b}"
        return f"{head}, channel {channel}, y {y}, x {x}, ", f"got {got}"


def look_inside(folder: Path, top: str, source: Port) -> tuple[list[Watched], list[Queue]]:
    """Write `BENCH`, a build's bench with all its streams compared and its queues counted, and what
    it reads."""
    connected = nets((folder / "rtl/top.v").read_text(), top)
    watched = streams_of(folder, connected, source)
    queues = queues_of(folder, connected)
    empty_folder(folder / FOLDER)
    for one in watched:
        write_text(folder / FOLDER / f"{one.number}.hex", one.text())
        times = hex_text([*one.stream.cycles, 0], 32)  # one more: none may be empty
        write_text(folder / FOLDER / f"{one.number}.times.hex", times)
    bench = (folder / "bench/bench.v").read_text().rstrip().removesuffix("endmodule")
    parts = "".join([*(w.verilog() for w in watched), *(q.verilog() for q in queues)])
    write_text(folder / BENCH, f"{bench}\n{parts}endmodule\n")
    return watched, queues


def streams_of(
    folder: Path, connected: Mapping[str, Mapping[str, str]], source: Port
) -> list[Watched]:
    """Those whose nets are there: an input that is constant is no port of a block."""
    program = load(folder / "program.intaglio")
    words = (folder / "bench/stimulus.hex").read_text().split()
    frames = source.frames([int(word, 16) for word in words])
    values = Simulator(program, trace=True)(frames)
    found = []
    for number, stored in enumerate(json.loads((folder / STREAMS).read_text())):
        stream = Stream.from_json(stored)
        signals = nets_of(stream, connected)
        if signals is None:
            continue
        ports = tuple(
            Port(name, name, stream.layer, program.tensors[name].shape, IntType.parse(stream.type),
                 stream.lanes)
            for name in stream.tensors
        )  # fmt: skip
        packed = [port.pack(values[port.tensor].astype(np.int64)) for port in ports]
        beats = [
            beat
            for n in range(len(frames))
            for port, all_beats in zip(ports, packed, strict=True)
            for beat in all_beats[n * port.beats : (n + 1) * port.beats]
        ]
        found.append(Watched(number, stream, ports, beats, signals))
    return found


def nets_of(
    stream: Stream, connected: Mapping[str, Mapping[str, str]]
) -> tuple[str, str, str] | None:
    """Payload, valid and ready, as the bench names them; of valid and ready a constant 1 where the
    reader has no such port."""
    ports = connected.get(stream.reader, {})
    payload = ports.get(f"{stream.port}_payload", "")
    if not re.fullmatch(r"\w+(\[[\d:]+\])?", payload):
        return None
    others = [ports.get(f"{stream.port}_{wire}", "1'h1") for wire in ("valid", "ready")]
    valid, ready = (net if "'" in net else f"dut.{net}" for net in others)
    return f"dut.{payload}", valid, ready


def seen(
    folder: Path,
    watched: Sequence[Watched],
    queues: Sequence[Queue],
    timed: int,
    filled: int | None,
) -> Inside:
    """What the bench noted of the streams, of which so many frames must be in time, and of the
    queues, whose filling in run `filled` is the predicted one."""
    events = (folder / EVENTS).read_text().splitlines()
    first = first_wrong(events, watched, timed)
    return replace(first, queues=tuple(wrong_queues(events, queues, filled)))


def first_wrong(lines: Sequence[str], watched: Sequence[Watched], timed: int) -> Inside:
    """What the bench noted: the earliest of it, and of one cycle the nearest to the image; whether
    it was in time counts in as many frames as are `timed`. Else the block that stood still, where
    one did."""
    events = [line.split() for line in lines]
    by_number = {one.number: one for one in watched}
    found: list[tuple[tuple[int, int, bool, int], Inside]] = []
    for kind, *words in events:
        if kind not in ("inside", "rule", "late"):
            continue
        run, cycle, one = int(words[0]), int(words[1]), by_number[int(words[2])]
        if kind == "late" and int(words[3]) >= timed * one.frame:
            continue  # of a frame that is not played
        if kind == "rule" and int(words[3]) == Fault.RESET:
            continue
        stream, place, block = one.stream, "", one.stream.driver
        if kind == "inside":
            place, wrong = one.located(int(words[3]), words[4])
        elif kind == "rule":
            wrong = Fault(int(words[3])).words
        else:
            due = stream.cycles[int(words[3])]
            wrong = f"beat {words[3]} is not taken in the predicted cycle, {due:,}"
            block = stream.reader if words[4] == "1" else behind_fork(stream.driver, watched)
        known: dict[str, Any] = {"place": place, "wrong": wrong, "run": run, "cycle": cycle}
        inside = Inside(len(watched), stream.driver, stream.layer, stream.reader, **known,
                        block=block)  # fmt: skip
        # A block that joins streams takes none of them before the last is there.
        found.append(((run, cycle, block == stream.reader, stream.depth), inside))
    if found:
        return min(found, key=lambda pair: pair[0])[1]
    still = [words for kind, *words in events if kind == "still"]
    return stood_still(still, by_number) or Inside(len(watched))


def behind_fork(driver: str, watched: Sequence[Watched]) -> str:
    """What a fork is driven by, which offers nothing of its own; else the driver itself."""
    sources = [one.stream.driver for one in watched if one.stream.reader == driver]
    return sources[0] if driver.endswith("_fork") and sources else driver


def stood_still(still: Sequence[Sequence[str]], watched: Mapping[int, Watched]) -> Inside | None:
    """The block nearest to the image that has a beat at every input, and none at an output that
    waits, as the streams stood when the bench was hung."""
    waits, offers = dict[str, bool](), dict[str, list[int]]()
    for _, _, number, valid, ready in still:
        stream = watched[int(number)].stream
        waits[stream.driver] = waits.get(stream.driver, False) or (valid, ready) == ("1", "0")
        offers.setdefault(stream.reader, []).append(int(valid == "1"))
    for words in sorted(still, key=lambda words: watched[int(words[2])].stream.depth):
        stream = watched[int(words[2])].stream
        if all(offers[stream.reader]) and not waits.get(stream.reader, False):
            return Inside(
                len(watched), stream.driver, stream.layer, stream.reader, int(words[0]),
                int(words[1]), "", "a beat is not taken, and nothing comes out", stream.reader,
            )  # fmt: skip
    return None
