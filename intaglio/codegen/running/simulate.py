"""bench/run.py of a build, in a process of its own: compiled, run, and what became of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from intaglio.codegen.folder.bench import EVENTS, recording
from intaglio.codegen.folder.plan import Run, plan_text
from intaglio.codegen.running.benches import shared
from intaglio.codegen.running.noted import Events, read_events
from intaglio.codegen.running.tools import SimulatorName, check_tools
from intaglio.codegen.running.wave import begin_wave, place_wave, written_to
from intaglio.cosim.port import Port
from intaglio.errors import ToolError
from intaglio.system.disk import without_files, write_text
from intaglio.system.processes import complaint, kept_folder, run_logged
from intaglio.system.steps import Steps, last_line

PLAYED = "sim/plan.hex"


def run_bench(
    folder: Path, simulator: SimulatorName, sinks: Sequence[Port], runs: Sequence[Run], seed: int,
    waited: int, bench: str = "", wave: Path | None = None,
) -> Events:  # fmt: skip
    """The runs of a plan; the recordings appear under sim/. Another `bench` may take the place of
    bench/bench.v; `wave` is where a waveform goes."""
    check_tools(simulator)
    names = [EVENTS, *map(recording, sinks)]
    without_files(folder / "sim", (Path(name).name for name in names))
    write_text(folder / PLAYED, plan_text(runs))
    words = ["--plan", PLAYED, "--seed", str(seed), "--patience", str(waited)]
    words += ["--bench", bench] if bench else []
    if wave is not None:
        begin_wave(folder, wave)
        words += ["--wave", written_to(wave)]
    _, printed = run_script(folder, simulator, words)
    events = read_events(folder)
    if not events.broken_off and len(events.ends) < len(runs):
        raise stopped(folder, simulator, printed)
    if wave is not None:
        place_wave(folder, wave)
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
    shelved = simulator == "verilator" and not {"--bench", "--wave"} & set(words)
    with shared(folder) if shelved else nullcontext():
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
