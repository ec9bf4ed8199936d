"""Verification: the RTL of a build in cocotb, whole frames, every beat against the simulator."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from intaglio.codegen.folder.bench import EVENTS, expected_beats, expected_file, recording
from intaglio.codegen.folder.manifest import changed_files, read_manifest
from intaglio.codegen.folder.plan import (
    MOST,
    Run,
    default_frames,
    patience,
    plan_text,
    planned,
    stalled,
)
from intaglio.codegen.running.benches import shared
from intaglio.codegen.running.noted import (
    Events,
    frame_ends,
    longest,
    read_events,
    read_recordings,
    unpredicted,
)
from intaglio.codegen.running.result import CycleRule
from intaglio.codegen.running.result import VerifyResult as VerifyResult
from intaglio.codegen.running.tools import SimulatorName, check_tools
from intaglio.cosim.port import Port
from intaglio.cosim.score import Mismatch, Recording, compare
from intaglio.errors import BuildError, ToolError
from intaglio.file import load
from intaglio.program import Program
from intaglio.sim.engine import Simulator
from intaglio.system.disk import without_files, write_text
from intaglio.system.processes import complaint, kept_folder, run_logged
from intaglio.system.steps import Steps, last_line

PLAYED = "sim/plan.hex"
SEEDS = 1 << 31
Recordings = Mapping[str, Mapping[int, Recording]]  # by tensor, then by run


def verify(
    build_dir: str | Path,
    frames: int | None = None,
    stalls: bool = False,
    simulator: SimulatorName = "verilator",
    *,
    seed: int = 1,
    cycles: CycleRule = "predicted",
    steps: Steps | None = None,
) -> VerifyResult:
    """Simulate whole frames and compare every output beat with the simulator, its cycle with the
    prediction, and every output with the rules of its protocol.

    frames  how many in all, from the stored ones, again and again; default: `default_frames`. Most
            are played with pauses of many kinds (`planned`), then comes a reset in mid-frame, and
            the rest follows without pauses. One or two are played without pauses alone.
    stalls  instead: all in one run with random pauses on every port, and no cycles to compare.
    seed    of the pauses, 0 to 2**31 - 1.
    cycles  "ignore": cycles other than predicted are no failure.
    steps   are told how far it is.

    The expected values are computed anew from `program.intaglio` and the stimulus. Raises
    BuildError for a folder that is no build, ToolError for a simulator that is missing or fails.
    """
    started = time.perf_counter()
    folder = Path(build_dir)
    manifest = read_manifest(folder)
    source = Port.from_json(manifest["input"])
    sinks = [Port.from_json(entry) for entry in manifest["outputs"]]
    count = default_frames(manifest["frames"]) if frames is None else frames
    if count < 1:
        raise BuildError(f"frames must be at least 1, not {frames}.")
    if count > MOST:
        raise BuildError(f"frames must be at most {MOST:,}, not {count:,}.")
    if not 0 <= seed < SEEDS:
        raise BuildError(f"seed must be from 0 to 2**31 - 1, not {seed}.")
    steps = steps or Steps()
    steps.plan("expected beats", "simulation", "comparison")
    with steps.step("expected beats"):
        want = expected(folder, load(folder / "program.intaglio"), source, sinks)
    interval = manifest["cycles_per_frame"]
    runs = stalled(count) if stalls else planned(count, interval, len(sinks), seed=seed)
    waited = patience(interval, manifest["latency_cycles"])
    with steps.step("simulation"):
        steps.watch(partial(how_far, folder, simulator, sinks, count))
        events = run_bench(folder, simulator, sinks, runs, seed, waited)
    with steps.step("comparison"):
        got = {sink.tensor: read_recordings(folder / recording(sink)) for sink in sinks}
        begun = runs[: events.begun]
        differ, first = compared(sinks, got, want, begun, waited, several=len(runs) > 1)
    last = len(runs) - 1
    timed = runs[last].timed and not differ and events.hung is None
    plain = {sink.tensor: got[sink.tensor][last] for sink in sinks} if timed else {}
    ends = frame_ends(sinks, plain, runs[last].frames) if timed else []
    stored = manifest["frame_ends"]
    late = [unpredicted(folder, s, plain[s.tensor], runs[last].frames, last) for s in sinks
            if timed and cycles == "predicted"]  # fmt: skip
    return VerifyResult(
        frames=count,
        runs=len(runs),
        beats=sum(len(one.data) for by_run in got.values() for one in by_run.values()),
        mismatches=differ,
        first_mismatch=first,
        broken=events.broken([source, *sinks]),
        unpredicted=min(filter(None, late), key=lambda broken: broken.cycle, default=None),
        cycles_per_frame=longest(ends) if len(ends) > 1 else None,
        predicted_cycles_per_frame=longest(stored[: max(2, runs[last].frames)]),
        latency_cycles=ends[0] if ends else None,
        predicted_latency_cycles=stored[0],
        cycles=cycles,
        simulator=simulator,
        stalls=stalls,
        seed=seed,
        changed=changed_files(folder, manifest),
        seconds=round(time.perf_counter() - started, 1),
    )


def compared(
    sinks: Sequence[Port], got: Recordings, want: Mapping[str, Sequence[int]],
    runs: Sequence[Run], waited: int, *, several: bool,
) -> tuple[int, Mismatch | None]:  # fmt: skip
    """Number of beats that differ in these runs, and the first of them; of `several` runs it is
    said in which."""
    differ, found = 0, list[Mismatch]()
    for number, run in enumerate(runs):
        for sink in sinks:
            one = got[sink.tensor].get(number, Recording())
            wrong, first = compare(sink, one, want[sink.tensor], run.frames, waited, goes_on=True)
            differ += wrong
            if first is not None:
                found.append(replace(first, run=number if several else None))
    return differ, min(found, key=lambda m: (m.run or 0, m.cycle), default=None)


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
        path = folder / expected_file(sink)
        if path.read_bytes() != expected_beats(sink, values).encode():
            raise BuildError(
                f"{path} must be what the simulator computes from the Program and the stimulus;"
                " it has been changed: build again."
            )
        found[sink.tensor] = sink.pack(values)
    return found


def run_bench(
    folder: Path, simulator: SimulatorName, sinks: Sequence[Port], runs: Sequence[Run], seed: int,
    waited: int,
) -> Events:  # fmt: skip
    """bench/run.py in a process of its own; its recordings appear under sim/."""
    check_tools(simulator)
    names = [EVENTS, *map(recording, sinks)]
    without_files(folder / "sim", (Path(name).name for name in names))
    write_text(folder / PLAYED, plan_text(runs))
    words = ["--plan", PLAYED, "--seed", str(seed), "--patience", str(waited)]
    _, printed = run_script(folder, simulator, words)
    events = read_events(folder)
    if events.hung is None and len(events.ends) < len(runs):
        raise stopped(folder, simulator, printed)
    return events


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
