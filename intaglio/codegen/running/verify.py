"""Verification: the RTL of a build in cocotb, whole frames, every beat against the simulator."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.codegen.folder.bench import expected_beats, recording
from intaglio.codegen.folder.manifest import read_manifest
from intaglio.codegen.running.benches import shared
from intaglio.codegen.running.tools import SimulatorName, check_tools
from intaglio.cosim.port import Port
from intaglio.cosim.score import Mismatch, Recording, compare
from intaglio.errors import BuildError, ToolError
from intaglio.file import load
from intaglio.program import Program
from intaglio.sim.engine import Simulator
from intaglio.system.disk import without_files
from intaglio.system.html import cards, snippet, tag, text_of
from intaglio.system.processes import complaint, kept_folder, run_logged
from intaglio.system.steps import Steps, last_line


@dataclass(frozen=True)
class VerifyResult:
    """frames played, beats compared, beats that differ, the first of them, and the frame
    interval as measured (None with one frame, with stalls, or after a mismatch) and as predicted
    for as many frames. Latency is counted from reset to the first frame's last beat."""

    frames: int
    beats: int
    mismatches: int
    first_mismatch: Mismatch | None
    cycles_per_frame: int | None
    predicted_cycles_per_frame: int
    latency_cycles: int | None
    predicted_latency_cycles: int
    simulator: str
    stalls: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)

    def _repr_html_(self) -> str:
        facts = {
            "result": "differs" if self.mismatches else "all equal", "frames": self.frames,
            "beats compared": f"{self.beats:,}", "beats that differ": f"{self.mismatches:,}",
            "simulator": self.simulator + ", random stalls" * self.stalls,
        }  # fmt: skip
        if self.cycles_per_frame is not None:
            facts["cycles a frame"] = f"{self.cycles_per_frame:,}"
            facts["predicted"] = f"{self.predicted_cycles_per_frame:,}"
        return snippet("Verification", cards(facts), tag("p", text_of(self.sentence())))

    def sentence(self) -> str:
        """The result in one sentence."""
        how = "with random stalls" if self.stalls else "back to back"
        head = f"{self.frames} frames {how}, {self.beats:,} beats compared in {self.simulator}"
        if self.first_mismatch is not None:
            return f"{head}: {self.mismatches:,} differ, first {self.first_mismatch.sentence()}"
        text = f"{head}: all equal"
        if self.cycles_per_frame is not None:
            text += (
                f"; {self.cycles_per_frame:,} cycles a frame, predicted"
                f" {self.predicted_cycles_per_frame:,}"
            )
        return f"{text}; {self.seconds:.0f} s"


def verify(
    build_dir: str | Path,
    frames: int | None = None,
    stalls: bool = False,
    simulator: SimulatorName = "verilator",
    *,
    steps: Steps | None = None,
) -> VerifyResult:
    """Simulate whole frames back to back and compare every output beat with the simulator.

    frames  default: all stored; more than stored: they are repeated.
    stalls  random pauses on every port.
    steps   are told how far it is.

    The expected values are computed anew from `program.intaglio` and the stimulus. Raises
    BuildError for a folder that is no build, ToolError for a simulator that is missing or fails.
    """
    started = time.perf_counter()
    folder = Path(build_dir)
    manifest = read_manifest(folder)
    source = Port.from_json(manifest["input"])
    sinks = [Port.from_json(entry) for entry in manifest["outputs"]]
    count = manifest["frames"] if frames is None else frames
    if count < 1:
        raise BuildError(f"frames must be at least 1, not {frames}.")
    steps = steps or Steps()
    steps.plan("expected beats", "simulation", "comparison")
    with steps.step("expected beats"):
        want = expected(folder, load(folder / "program.intaglio"), source, sinks)

    patience = 4 * manifest["cycles_per_frame"] + 2 * manifest["latency_cycles"] + 10_000
    with steps.step("simulation"):
        steps.watch(partial(how_far, folder, simulator, sinks, count))
        run_bench(folder, simulator, sinks, count, stalls, patience)
    with steps.step("comparison"):
        got = {sink.tensor: read_recording(folder / recording(sink)) for sink in sinks}
        checks = [compare(s, got[s.tensor], want[s.tensor], count, patience) for s in sinks]
    wrong = [first for _, first in checks if first is not None]
    ends = [] if wrong or stalls else frame_ends(sinks, got)
    stored = manifest["frame_ends"]
    return VerifyResult(
        frames=count,
        beats=sum(len(got[s.tensor].data) for s in sinks),
        mismatches=sum(n for n, _ in checks),
        first_mismatch=min(wrong, key=lambda m: m.cycle, default=None),
        cycles_per_frame=longest(ends) if len(ends) > 1 else None,
        predicted_cycles_per_frame=longest(stored[: max(2, count)]),
        latency_cycles=ends[0] if ends else None,
        predicted_latency_cycles=stored[0],
        simulator=simulator,
        stalls=stalls,
        seconds=round(time.perf_counter() - started, 1),
    )


def expected(
    folder: Path, program: Program, source: Port, sinks: Sequence[Port]
) -> dict[str, list[int]]:
    """Beats of every output for the stored stimulus, by tensor; the stored vectors must agree."""
    try:
        beats = [int(line, 16) for line in (folder / "bench/stimulus.hex").read_text().split()]
        frames = source.frames(beats)
    except ValueError as error:
        raise BuildError(
            f"{folder}/bench/stimulus.hex must hold whole frames; build again."
        ) from error
    results = Simulator(program)(frames)
    found = {}
    for sink in sinks:
        values = results[sink.tensor].astype(np.int64)
        path = folder / "bench" / "expected" / f"{sink.tensor_file}.txt"
        if path.read_bytes() != expected_beats(sink, values).encode():
            raise BuildError(
                f"{path} must be what the simulator computes from the Program and the stimulus;"
                " it has been changed: build again."
            )
        found[sink.tensor] = sink.pack(values)
    return found


def run_bench(
    folder: Path, simulator: SimulatorName, sinks: Sequence[Port], frames: int, stalls: bool,
    patience: int,
) -> None:  # fmt: skip
    """bench/run.py in a process of its own; its recordings appear under sim/."""
    check_tools(simulator)
    without_files(folder / "sim", (Path(recording(sink)).name for sink in sinks))
    words = ["--frames", str(frames), "--patience", str(patience), *(["--stalls"] * stalls)]
    _, printed = run_script(folder, simulator, words)
    if not any((folder / recording(sink)).is_file() for sink in sinks):
        raise stopped(folder, simulator, printed)


def compile_bench(
    build_dir: str | Path, simulator: SimulatorName = "verilator", *, steps: Steps | None = None
) -> None:
    """What `verify` would do first: the bench of a build, compiled. Raises ToolError for a
    simulator that is missing or fails."""
    check_tools(simulator)
    folder, steps = Path(build_dir), steps or Steps()
    with steps.step("compilation"):
        steps.follow(log_of(folder, simulator))
        code, printed = run_script(folder, simulator, ["--compile"])
    if code:
        raise stopped(folder, simulator, printed)


def run_script(folder: Path, simulator: SimulatorName, words: Sequence[str]) -> tuple[int, str]:
    """The exit code of bench/run.py, and what it printed."""
    command = [sys.executable, "bench/run.py", "--simulator", simulator, *words]
    kept = kept_folder()
    command += ["--kept", str(kept / "intaglio")] if kept else []
    with shared(folder) if simulator == "verilator" else nullcontext():
        return run_logged(
            command, folder, log_of(folder, simulator), {"PYTHONDONTWRITEBYTECODE": "1"}
        )


def stopped(folder: Path, simulator: str, printed: str) -> ToolError:
    """The sentence about a bench that did not come to its end."""
    wrong, log = complaint(printed), log_of(folder, simulator)
    return ToolError(f"{simulator} must run the bench, but stopped: {wrong}; see {log}.")


def log_of(folder: Path, simulator: str) -> Path:
    """Where a build's bench writes what it does."""
    return folder / "sim" / f"{simulator}.log"


def how_far(folder: Path, simulator: str, sinks: Sequence[Port], frames: int) -> str:
    """What a running bench has recorded, or what is still being compiled."""
    beats = 0
    for sink in sinks:
        with suppress(OSError):
            beats += (folder / recording(sink)).read_bytes().count(b"\n")
    if beats:
        return f"{beats:,} of {frames * sum(sink.beats for sink in sinks):,} beats"
    return last_line(log_of(folder, simulator))


def read_recording(path: Path) -> Recording:
    """Lines `cycle tlast tdata`."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.is_file() else []
    whole = [line for line in lines if len(line) == 3]
    return Recording(
        [int(line[0]) for line in whole],
        [int(line[1]) for line in whole],
        [-1 if set(line[2]) & set("xXzZ") else int(line[2], 16) for line in whole],
    )


def frame_ends(sinks: Sequence[Port], got: Mapping[str, Recording]) -> list[int]:
    """The cycle of each frame's last beat, over all outputs."""
    ends = [got[s.tensor].cycles[s.beats - 1 :: s.beats] for s in sinks]
    return [max(frame) for frame in zip(*ends, strict=True)]


def longest(ends: Sequence[int]) -> int:
    """The longest distance between the ends of two consecutive frames."""
    return max(b - a for a, b in pairwise(ends))
