"""Looking inside: a second run of what went wrong, with every stream between blocks compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.codegen.folder.bench import EVENTS, STREAMS
from intaglio.codegen.running.noted import Events
from intaglio.codegen.running.queued import queues_of, wrong_queues
from intaglio.codegen.structure.streams import Stream, nets
from intaglio.cosim.port import Port
from intaglio.cosim.protocol import Fault
from intaglio.file import load
from intaglio.fixed import IntType
from intaglio.hdl.pack import hex_text
from intaglio.sim.engine import Simulator
from intaglio.system.disk import empty_folder, write_text

FOLDER = "sim/inside"
Again = Callable[[str], Events]  # the same runs in another bench


@dataclass(frozen=True)
class Inside:
    """The first stream between blocks that is wrong: of the block `driver` of a `layer`, read by
    `reader`; None where all of them are right, and what is wrong lies behind the last.

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
            f" {self.wrong}."
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
        return (
            f"  bench_inside #(.WIDTH({self.width}), .DEPTH({len(self.beats)}),"
            f' .FILE("{FOLDER}/{self.number}.hex"), .NUMBER({self.number}))\n'
            f"    inside_{self.number} (.clk(clk), .rst(reset), .file(events), .run(run),"
            f" .cycle(cycle),\n    .payload({payload}), .valid({valid}), .ready({ready}));\n"
        )

    def located(self, beat: int, got: str) -> tuple[str, str]:
        """Where beat number `beat` of a run is, and what is wrong with it."""
        frame, rest = divmod(beat, sum(port.beats for port in self.ports))
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


def looked(folder: Path, top: str, source: Port, again: Again, timed: int | None) -> Inside:
    """Run a build again with all its streams compared and its queues counted, whose filling in run
    `timed` is the predicted one."""
    connected = nets((folder / "rtl/top.v").read_text(), top)
    watched = streams_of(folder, connected, source)
    queues = queues_of(folder, connected)
    empty_folder(folder / FOLDER)
    for one in watched:
        write_text(folder / FOLDER / f"{one.number}.hex", one.text())
    bench = (folder / "bench/bench.v").read_text().rstrip().removesuffix("endmodule")
    parts = "".join([*(w.verilog() for w in watched), *(q.verilog() for q in queues)])
    write_text(folder / FOLDER / "bench.v", f"{bench}\n{parts}endmodule\n")
    again(f"{FOLDER}/bench.v")
    events = (folder / EVENTS).read_text().splitlines()
    return replace(first_wrong(events, watched), queues=tuple(wrong_queues(events, queues, timed)))


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


def first_wrong(events: Sequence[str], watched: Sequence[Watched]) -> Inside:
    """The earliest of what the bench noted, and of one cycle the nearest to the image."""
    by_number = {one.number: one for one in watched}
    found: list[tuple[tuple[int, int, int], Inside]] = []
    for line in events:
        words = line.split()
        if words[0] not in ("inside", "rule"):
            continue
        run, cycle, one = int(words[1]), int(words[2]), by_number[int(words[3])]
        if words[0] == "inside":
            place, wrong = one.located(int(words[4]), words[5])
        elif int(words[4]) == Fault.RESET:
            continue
        else:
            place, wrong = "", Fault(int(words[4])).words
        stream = one.stream
        known: dict[str, Any] = {"place": place, "wrong": wrong, "run": run, "cycle": cycle}
        inside = Inside(len(watched), stream.driver, stream.layer, stream.reader, **known)
        found.append(((run, cycle, stream.depth), inside))
    return min(found, key=lambda pair: pair[0])[1] if found else Inside(len(watched))
