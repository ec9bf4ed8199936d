"""Verification: the RTL of a build in cocotb, whole frames, every beat against the simulator."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from intaglio.codegen.folder.bench import expected_beats, expected_file, recording
from intaglio.codegen.folder.manifest import changed_files, read_manifest
from intaglio.codegen.folder.plan import (
    MOST,
    default_frames,
    patience,
    planned,
    stalled,
)
from intaglio.codegen.running.inside import BENCH, look_inside, seen
from intaglio.codegen.running.noted import (
    frame_ends,
    longest,
    read_recordings,
    unpredicted,
)
from intaglio.codegen.running.result import CycleRule, Judged, LookRule, first_of
from intaglio.codegen.running.result import VerifyResult as VerifyResult
from intaglio.codegen.running.simulate import compile_bench as compile_bench
from intaglio.codegen.running.simulate import how_far, run_bench
from intaglio.codegen.running.tools import SimulatorName
from intaglio.codegen.running.wave import check_wave
from intaglio.cosim.port import Port
from intaglio.cosim.score import Mismatch, Recording, compare
from intaglio.errors import BuildError
from intaglio.file import load
from intaglio.ops import Ints
from intaglio.program import Program
from intaglio.sim.engine import Simulator
from intaglio.stimulus.coverage import covered
from intaglio.system.steps import Steps

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
    inside: LookRule = "fault",
    wave: Path | None = None,
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
    inside  "always": every stream between blocks is compared, too, its values, protocol and cycles;
            what is wrong there is a failure. It takes about twice the time. "fault": where a beat,
            a rule or a cycle is wrong, run again so, and find where it first is. "never": do not.
    wave    a file that gets a waveform: .vcd, or with Icarus .fst too.
    steps   are told how far it is.

    Nothing more is played a frame's time behind the first wrong beat. The expected values are
    computed anew from `program.intaglio` and the stimulus. Raises BuildError for a folder that is
    no build, ToolError for a simulator that is missing or fails, DataError for a `wave` that it
    cannot write.
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
    if wave is not None:
        check_wave(wave, simulator)
    steps = steps or Steps()
    steps.plan("expected beats", "simulation", "comparison")
    with steps.step("expected beats"):
        program, stimulus = load(folder / "program.intaglio"), stored_frames(folder, source)
        want = expected(folder, program, stimulus, sinks)
        steps.tell("coverage")
        coverage = covered(program, stimulus[:count])
        looked = look_inside(folder, manifest["name"], source) if inside == "always" else None
    interval, latency = manifest["cycles_per_frame"], manifest["latency_cycles"]
    runs = stalled(count) if stalls else planned(count, interval, len(sinks), latency, seed=seed)
    waited = patience(interval, latency)
    with steps.step("simulation"):
        steps.watch(partial(how_far, folder, simulator, sinks, count))
        bench = BENCH if looked else ""
        events = run_bench(folder, simulator, sinks, runs, seed, waited, bench, wave)
    with steps.step("comparison"):
        got = {sink.tensor: read_recordings(folder / recording(sink)) for sink in sinks}
        whole = [run.frames for run in runs[: len(events.ends) + (events.hung is not None)]]
        whole += [0] * (events.wrong is not None)  # of what did not come nothing is missing
        judged = [judge(sink, got, want, whole, waited, len(runs) > 1) for sink in sinks]
        differ, first = sum(one.mismatches for one in judged), first_of(judged)
        last, stored = len(runs) - 1, manifest["frame_ends"]
        timed = runs[last].timed and not differ and not events.broken_off
        plain = {sink.tensor: got[sink.tensor][last] for sink in sinks} if timed else {}
        ends = frame_ends(sinks, plain, runs[last].frames) if timed else []
        late = [unpredicted(folder, s, plain[s.tensor], runs[last].frames, last) for s in sinks
                if timed and cycles == "predicted"]  # fmt: skip
        filled = last if timed and runs[last].frames >= len(stored) else None
        checked = runs[last].frames * (cycles == "predicted")
        if inside == "fault" and (differ or any(late) or events.broken([source, *sinks])):
            steps.tell("inside")
            looked = look_inside(folder, manifest["name"], source)
            run_bench(folder, simulator, sinks, runs, seed, waited, BENCH)
        found = seen(folder, *looked, checked, filled) if looked else None
    return VerifyResult(
        frames=count,
        runs=len(runs),
        beats=sum(one.beats for one in judged),
        mismatches=differ,
        first_mismatch=first,
        broken=events.broken([source, *sinks]),
        inside=found,
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
        stopped=events.wrong is not None,
        outputs=tuple(judged),
        coverage=coverage,
    )


def judge(
    sink: Port, got: Recordings, want: Mapping[str, Sequence[int]], whole: Sequence[int],
    waited: int, several: bool,
) -> Judged:  # fmt: skip
    """An output over all runs, of which so many frames must be `whole`; of `several` it is said in
    which the first beat differs."""
    differ, beats, found = 0, 0, list[Mismatch]()
    for number, frames in enumerate(whole):
        one = got[sink.tensor].get(number, Recording())
        wrong, first = compare(sink, one, want[sink.tensor], frames, waited, goes_on=True)
        differ, beats = differ + wrong, beats + len(one.data)
        if first is not None:
            found.append(replace(first, run=number if several else None))
    return Judged(sink.tensor, sink.origin, beats, differ, found[0] if found else None)


def stored_frames(folder: Path, source: Port) -> Ints:
    """The frames of a build's bench."""
    try:
        beats = [int(line, 16) for line in (folder / "bench/stimulus.hex").read_text().split()]
        return source.frames(beats)
    except ValueError as error:
        raise BuildError(
            f"{folder}/bench/stimulus.hex must hold whole frames; build again."
        ) from error


def expected(
    folder: Path, program: Program, frames: Ints, sinks: Sequence[Port]
) -> dict[str, list[int]]:
    """Beats of every output for the frames, by tensor; the stored vectors must agree."""
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
