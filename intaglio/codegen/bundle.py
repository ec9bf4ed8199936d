# amaranth: UnusedElaboratable=no
"""The build: a Program as Verilog, ROM files, bench, constraints and scripts, in one value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.codegen.area.boards import Place, place
from intaglio.codegen.folder import bench
from intaglio.codegen.folder.alone import alone_files
from intaglio.codegen.folder.handover import handed_over
from intaglio.codegen.folder.manifest import (
    BUILD,
    FORMAT,
    MANIFEST,
    PROGRAM,
    BuildFiles,
    manifest_bytes,
    program_bytes,
)
from intaglio.codegen.folder.plan import PLAN, default_frames, plan_text, planned
from intaglio.codegen.folder.scripts import constraint_files, script_files
from intaglio.codegen.folder.wrapper import axi_name
from intaglio.codegen.folding.estimate import layers, total_need
from intaglio.codegen.folding.remedies import Asked, helped
from intaglio.codegen.folding.solve import advice
from intaglio.codegen.running.compile import Function, compile_bundle
from intaglio.codegen.schedule.activity import activity
from intaglio.codegen.schedule.queues import QUEUES, queue_trace, to_text
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.graph import sharing_text
from intaglio.codegen.structure.ports import FRAME_ERROR, random_frames
from intaglio.codegen.structure.streams import streams
from intaglio.codegen.structure.verilog import begun
from intaglio.errors import BuildError
from intaglio.file import load
from intaglio.hdl.pack import hex_text
from intaglio.ops import Ints, Tensor
from intaglio.program import Program
from intaglio.sim.engine import Simulator
from intaglio.stimulus.choose import chosen
from intaglio.system.disk import whole_folder
from intaglio.system.html import cards, folded, snippet, table
from intaglio.system.places import check_folder
from intaglio.system.steps import Steps

STEPS = (
    "folding and queues", "stimulus", "expected frames", "queues over time",
    "ROMs and expected beats", "Verilog",
)  # fmt: skip
RANDOM = 3  # frames that those of a bench meet no less than


def stored_tensor(tensor: Tensor) -> dict[str, Any]:
    """What a map's integers stand for, for the host of a board."""
    return {"name": tensor.name, "scale": tensor.scale, "zero_point": list(tensor.zero_point)}


@dataclass(frozen=True)
class Bundle(BuildFiles):
    """A build, as a value. Equal Programs and settings give equal bytes."""

    def report(self) -> dict[str, Any]:
        """target, fps, cycles_per_frame, latency_cycles, multipliers, resources, layers."""
        keys = ("target", "clock_mhz", "fps", "cycles_per_frame", "latency_cycles", "bottleneck",
                "advice", "multipliers", "resources", "layers", "sharing")  # fmt: skip
        return {key: self.manifest[key] for key in keys}

    def __repr__(self) -> str:
        m = self.manifest
        return (
            f"<Bundle {m['name']} for {m['target']}: {m['cycles_per_frame']:,} cycles a frame,"
            f" {m['fps']:.1f} frames/s at {m['clock_mhz']:g} MHz, {len(self.files)} files>"
        )

    def _repr_html_(self) -> str:
        m, used = self.manifest, self.manifest["resources"]
        facts = {
            "target": m["target"], "clock": f"{m['clock_mhz']:g} MHz",
            "frames/s": f"{m['fps']:.1f}",
            "cycles a frame": f"{m['cycles_per_frame']:,}", "LUTs, estimated": f"{used['luts']:,}",
            "block RAMs, estimated": f"{used['rams']:g}",
            "multipliers, estimated": f"{used['multipliers']}",
        }  # fmt: skip
        keys = ("name", "op", "pe", "simd", "cycles", "multipliers", "rom_bits")
        rows = [["-" if row[k] is None else row[k] for k in keys] for row in m["layers"]]
        layers = table(("layer", "op", "PE", "SIMD", "cycles", "multipliers", "ROM bits"), rows)
        return snippet(f"Build of {m['name']}", cards(facts), folded("layers", layers))

    def summary(self) -> str:
        """The result in two sentences."""
        m, r = self.manifest, self.manifest["resources"]
        memory = m["memory"]
        cells = f", {r['cells']:,} logic cells" if r["cells"] else ""
        return (
            f"{m['cycles_per_frame']:,} cycles a frame, {m['fps']:.1f} frames/s at"
            f" {m['clock_mhz']:g} MHz, set by {m['bottleneck']}; {m['multipliers']} multipliers."
            f" Estimated on {m['target']}: {r['multipliers']} hard multipliers, {r['rams']:g} block"
            f" RAMs, {r['luts']:,} LUTs, {r['ffs']:,} flip-flops{cells}. Bits of memory:"
            f" {memory['roms']:,} ROM, {memory['line_buffers']:,} line buffers,"
            f" {memory['queues']:,} queues. {m['advice']} {sharing_text(m['sharing'])}"
        ).rstrip()

    def compile(self, folder: str | Path | None = None, *, threads: int | None = None) -> Function:
        """The RTL as a function of image batches: see `compile_bundle`."""
        return compile_bundle(self, folder=folder, threads=threads)

    def write(self, folder: str | Path, *, force: bool = False) -> None:
        """Write the files; the folder appears whole or not at all, and replaces an older build.

        force  also one with a bitstream, a simulation or changed files in it, which are lost.

        Raises BuildError when the folder holds something else or cannot be written.
        """
        check_folder(Path(folder), BUILD, force, refused=BuildError)
        with whole_folder(Path(folder), BuildError) as part:
            for path, contents in self.files.items():
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                (part / path).write_bytes(contents)


def asked_for(
    program: Program,
    where: Place,
    target: str | None,
    fps: float | None,
    lanes: int | None,
    share: bool | None,
    clock_mhz: float | None,
) -> Asked:
    """What the settings of a build come to, with where else it could go."""
    others = [(r, p.room, p.clock_mhz) for r, p in where.others(target, clock_mhz)]
    return Asked(program, where.room, fps, lanes, where.clock_mhz, share, others)


def build(
    program: Program | str | Path,
    *,
    target: str | None = None,
    fps: float | None = None,
    lanes: int | None = None,
    share: bool | None = None,
    clock_mhz: float | None = None,
    board: str | None = None,
    images: NDArray[np.integer[Any]] | None = None,
    name: str = "top",
    steps: Steps | None = None,
) -> Bundle:
    """Generate hardware for a Program, or for that in a .intaglio file.

    target  a name from `devices.DEVICES`; None: the board's, or else `boards.DEFAULT`.
    fps     frames a second wanted at `clock_mhz`, with the least of the target; or
    lanes   multipliers at most, as fast as they allow. Default: as fast as the target allows.
    share   whether convolutions of equal shape may take turns on one engine: True, where that makes
            the design cheaper at the rate (without one: faster); False, never; None, where no
            other design fits.
    clock_mhz  that its PLL makes on a board; None: `Device.clock_mhz`.
    board   a name from `boards.BOARDS`: room is left for its serial line, and its bitstream is made
            for it.
    images  stimulus (N, C, H, W) of the input's type; when None, up to eight frames made for this
            Program (`stimulus.choose`).
    name    of the top module.
    steps   are told how far it is.

    Raises BuildError when the target or the rate cannot be met, DataError for wrong images.
    """
    program = load(program) if isinstance(program, (str, Path)) else program
    where = place(target, clock_mhz, board)
    asked = asked_for(program, where, target, fps, lanes, share, clock_mhz)
    chip, clock_mhz = where.device, where.clock_mhz
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise BuildError(f"The name must be a Verilog identifier, not {name!r}.")
    if images is not None and len(images) < 1:
        raise BuildError("images must hold at least one frame of stimulus, not none.")
    steps = steps or Steps()
    steps.plan(*STEPS)
    with steps.step("folding and queues"):
        design = helped(asked, steps.tell)
    graph, plan, top, schedule = design.graph, design.plan, design.top, design.schedule
    (x,) = program.inputs
    with begun(top, name) as verilog:
        with steps.step("stimulus"):
            random = random_frames(x.type, x.shape, RANDOM)
            frames = chosen(program, random).frames if images is None else images
        with steps.step("expected frames"):
            expected = Simulator(program)(frames)
        with steps.step("queues over time"):
            queues, shown = to_text(queue_trace(top.netlist, schedule)), activity(top, schedule)
        files = {QUEUES: queues, "schedule.json": json.dumps(shown) + "\n"}
        with steps.step("ROMs and expected beats"):
            files |= around(top, name, frames.astype(np.int64), expected, shown, schedule.taken)
        with steps.step("Verilog"):
            files["rtl/top.v"] = verilog()
    facts = {
        "format": FORMAT,
        "name": name,
        "wrapper": axi_name(name, (f"{name}_{cell.name}" for cell in top.netlist.cells)),
        "target": chip.name,
        "board": board,
        "clock_mhz": clock_mhz,
        "fps": clock_mhz * 1e6 / schedule.interval,
        "cycles_per_frame": schedule.interval,
        "latency_cycles": schedule.latency,
        "frame_ends": list(schedule.finished),
        "first_outputs": {name: times["first"][0] for name, times in shown["outputs"].items()},
        "memory": shown["memory"],
        "bottleneck": graph.blocks[plan.slowest].origin,
        "advice": advice(graph, plan, chip, total_need(top, chip)),
        "multipliers": plan.multipliers,
        "resources": design.resources.to_json(),
        "layers": layers(top, chip),
        "sharing": design.sharing_json(),
        "frames": len(frames),
        "input": top.source.to_json(),
        "frame_error": FRAME_ERROR,
        "outputs": [sink.to_json() for sink in top.sinks],
        "maps": [stored_tensor(t) for t in program.outputs],
        "head": program.meta.get("head"),
        "program": program.digest(),
    }
    files |= constraint_files(chip, clock_mhz) | script_files(chip, name, clock_mhz)
    files |= handed_over(facts, files, chip)
    contents = {path: text.encode() for path, text in files.items()}
    contents[PROGRAM] = program_bytes(program)
    return Bundle(dict(sorted((contents | {MANIFEST: manifest_bytes(facts, contents)}).items())))


def around(
    top: Top,
    name: str,
    frames: Ints,
    expected: Mapping[str, NDArray[np.integer[Any]]],
    shown: Mapping[str, Any],
    taken: Sequence[Ints],
) -> dict[str, str]:
    """The files beside the Verilog: ROMs, and a bench of these frames and what is expected, with
    its cycles as the `activity` has them; `taken` is when the beats of each wire are."""
    interval, times = shown["interval"], shown["outputs"]
    runs = planned(default_frames(len(frames)), interval, len(top.sinks), shown["latency"])
    files = {
        "rtl/intaglio_rom.v": bench.verilog_file("intaglio_rom.v"),
        "bench/bench_parts.v": bench.verilog_file("bench_parts.v"),
        "bench/bench.v": bench.bench_verilog(
            name,
            top.source,
            top.sinks,
            len(frames),
            interval=interval,
            latency=shown["latency"],
            timed=len(times[top.sinks[0].tensor]["first"]),
        ),
        PLAN: plan_text(runs),
        bench.STREAMS: json.dumps(streams(top.netlist, taken)) + "\n",
        "bench/test_top.py": bench.COCOTB_TEST,
        "bench/run.py": bench.RUN_SCRIPT,
        "bench/verilated.py": bench.compiler_script(),
        **alone_files(top.source, top.sinks),
        "bench/stimulus.hex": bench.hex_beats(top.source, frames),
    }
    for rom in top.roms:
        for file, words in rom.banks:
            files[str(file)] = hex_text(words, rom.width)
    for sink in top.sinks:
        codes = expected[sink.tensor].astype(np.int64)
        files[bench.expected_file(sink)] = bench.expected_beats(sink, codes)
        files[bench.cycles_file(sink)] = bench.predicted_cycles(times[sink.tensor])
    return files
