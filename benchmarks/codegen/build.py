"""What a build takes, beside another checkout: python benchmarks/codegen/build.py --before PATH

Whole commands of both checkouts by turns, each in an interpreter of its own, with compiled kernels
kept from a run before that is not counted: `intaglio build` of two bundled networks, and with
--demo the whole `intaglio demo`. --what NAME takes some of them.

A row of results/build.json: medians of the rounds, `before_s` and `after_s` by the clock, `ratio`,
and `before_cpu_s`, `after_cpu_s` of the processors, which other programs disturb less; `peak_mib`
and `before_peak_mib`, the most memory that the command and all its children held together, shared
pages counted once. `before` is the other checkout's commit. Exit 1 where a file of the two builds
differs: their records and step logs aside, which hold times. --other: one that chooses another
design on purpose is measured all the same, and its row has `same_files` false.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from intaglio.detect import zoo
from intaglio.detect.images import stack
from intaglio.file import save
from intaglio.fixed import preset
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.system.disk import write_text
from intaglio.system.memory import family
from intaglio.system.threads import processors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sim"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cycles import bundled
from simulator import processor

HERE = Path(__file__).resolve().parent.parent.parent
RESULT = HERE / "benchmarks" / "results" / "build.json"
LOOK = 0.05  # seconds between two looks at the memory
TIMES = ("records/", "steps.json")  # what differs from run to run
BUILDS = {
    "fcos-nano": ("--target", "ecp5-85k"),
    "digits-up5k": ("--board", "icebreaker", "--fps", "80"),
}
DEMO = "demo"


@dataclass(frozen=True)
class Ran:
    """Seconds by the clock and of the processors, and the most bytes held."""

    seconds: float
    cpu: float
    peak: int


def program_of(name: str) -> Program:
    """A bundled detector, quantised quickly; for a board with multipliers that its chip has."""
    if "--board" not in BUILDS[name]:
        return bundled(name)
    arithmetic = preset("intaglio", 16)
    with tempfile.TemporaryDirectory() as folder:
        data = zoo.calibration(name, Path(folder), 4)
        images = stack([data.file(i) for i in data.ids[:4]], None)
        config = QuantConfig(method="minmax", arithmetic=arithmetic)
        return quantize(zoo.load(name), images, config).program


def run(tree: Path, *arguments: object) -> Ran:
    """One command of a checkout."""
    command = [sys.executable, "-m", "intaglio.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    before, started, peak = os.times(), time.perf_counter(), 0
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, cwd=tree, env=env, stdout=subprocess.DEVNULL, stderr=log
        ) as child,
    ):
        while child.poll() is None:
            peak = max(peak, held(child.pid))
            time.sleep(LOOK)
        log.seek(0)
        said = log.read()[-2000:].decode(errors="replace")
    seconds, after = time.perf_counter() - started, os.times()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} in {tree}:\n{said}")
    cpu = after.children_user + after.children_system
    return Ran(seconds, cpu - before.children_user - before.children_system, peak)


def held(pid: int) -> int:
    """Bytes that a process and its children hold together, what they share counted once; 0 where
    one has just ended."""
    try:
        return sum(proportional(one) for one in family(pid))
    except OSError:
        return 0


def proportional(pid: int) -> int:
    """Of one process, with its part of every page that others have too. Raises OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def digests(folder: Path) -> dict[str, str]:
    """Of every file but those with times."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (name := str(path.relative_to(folder))).startswith(TIMES)
    }


def row(
    what: str, before: Path, rounds: int, first: int, work: Path, other: bool
) -> dict[str, Any]:
    """Both checkouts by turns, from round `first` on; round 0 is not counted."""
    trees = {"before": before, "after": HERE}
    found: dict[str, list[Ran]] = {name: [] for name in trees}
    for number in range(first, rounds + 1):
        for name, tree in trees.items():
            out = work / f"{what}-{name}"
            if what == DEMO:
                ran = run(tree, "demo", "-o", out, "--force")
            else:
                program = work / f"{what}.intaglio"
                ran = run(tree, "build", program, *BUILDS[what], "-o", out, "--force")
            print(f"{what}, {name}, round {number}: {ran}", flush=True)
            if number:
                found[name].append(ran)
    same = digests(work / f"{what}-before") == digests(work / f"{what}-after")
    if what != DEMO and not same and not other:
        raise SystemExit(f"{what}: the two builds must have the same files.")
    was, now = found["before"], found["after"]
    seconds = {name: median(ran.seconds for ran in runs) for name, runs in found.items()}
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=before, capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip
    options = " ".join(BUILDS.get(what, ()))
    return {
        "what": f"{'' if what == DEMO else 'build '}{what} {options}".strip(),
        "before_s": round(seconds["before"], 2),
        "after_s": round(seconds["after"], 2),
        "ratio": round(seconds["before"] / seconds["after"], 2),
        "before_cpu_s": round(median(ran.cpu for ran in was), 2),
        "after_cpu_s": round(median(ran.cpu for ran in now), 2),
        "peak_mib": max(ran.peak for ran in now) >> 20,
        "before_peak_mib": max(ran.peak for ran in was) >> 20,
        **({} if what == DEMO else {"same_files": same}),
        "rounds": rounds,
        "before": commit,
        "processor": processor(),
        "processors": processors(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm", action="store_true", help="kernels are there: every round counts")
    parser.add_argument("--what", nargs="*", choices=[*BUILDS, DEMO], default=[*BUILDS])
    parser.add_argument("--other", action="store_true", help="the builds' files may differ")
    parser.add_argument("--demo", action="store_true", help="the whole demo too")
    options = parser.parse_args()
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for what in [*options.what, *([DEMO] if options.demo else [])]:
            if what != DEMO:
                save(program_of(what), Path(folder) / f"{what}.intaglio")
            made = row(
                what, options.before.resolve(), options.rounds, int(options.warm), Path(folder),
                options.other,
            )  # fmt: skip
            rows = [one for one in rows if one["what"] != made["what"]] + [made]
            write_text(RESULT, json.dumps({"rows": rows}, indent=1) + "\n")
            print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
