"""Whole commands beside those of another checkout: starting, and a whole evaluation.

python benchmarks/sim/start.py --before PATH

Both checkouts are made wheels and installed without their dependencies, which are those of the
Python that runs this. Commands run turn by turn, the other checkout's first:

    run, cold    `intaglio run` on one picture with fcos-nano W4A4, no compiled code kept and no
                 bytecode: the first time on a machine
    run, warm    the same again
    info, warm   `intaglio info` on it
    version      `intaglio --version`
    eval         `intaglio eval` of retinanet-small W4A4 on generated scenes, the code kept; boxes
                 and figures of both must be the same
    demo, cold   `intaglio demo`, nothing kept; AP must be the same in all its executions, and no
                 beat of the RTL may differ

Each row of results/start.json has the medians of its rounds in seconds of a clock and of the
processors, children included, and the median of the ratios round by round, with the smallest and
the largest. `ours` is the source tree's commit, `load` the system's at the end of the row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from simulator_page import write_starting

from intaglio.detect import zoo
from intaglio.detect.scenes import write_scenes
from intaglio.file import save
from intaglio.quant import QuantConfig, quantize
from intaglio.system.threads import processors

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OTHERS = ("PYTHONPATH", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")  # settings of this process
NAMES = ("run, cold", "run, warm", "info, warm", "version", "eval", "demo, cold")


@dataclass(frozen=True)
class Took:
    """One command: seconds of a clock, and of the processors."""

    seconds: float
    cpu: float


@dataclass(frozen=True)
class Installed:
    """A checkout's wheel in `folder`/site, and what it keeps beside that."""

    checkout: Path
    folder: Path

    @staticmethod
    def of(checkout: Path, folder: Path) -> Installed:
        """Built and installed."""
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        plain = ["--no-deps", "--no-build-isolation"]
        copy = folder / "copy"  # building writes beside the sources
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".*", "build", "demo"))
        subprocess.run([*pip, "wheel", *plain, "-w", folder, copy], check=True)
        (wheel,) = folder.glob("*.whl")
        subprocess.run(
            [*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True
        )
        return Installed(checkout, folder)

    @property
    def commit(self) -> str:
        """Of the checkout."""
        command = ["git", "-C", str(self.checkout), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def forget(self) -> None:
        """As if it had never run."""
        shutil.rmtree(self.folder / "kept", ignore_errors=True)
        for folder in (self.folder / "site").rglob("__pycache__"):
            shutil.rmtree(folder)

    def run(self, *words: object) -> Took:
        """One command of the command line."""
        kept = str(self.folder / "kept")
        start = f"import sys; sys.path.insert(0, {str(self.folder / 'site')!r});"
        start += "from intaglio.cli import main; main()"
        environment = {k: v for k, v in os.environ.items() if k not in OTHERS}
        environment |= {"NUMBA_CACHE_DIR": kept, "XDG_CACHE_HOME": kept}
        command = [sys.executable, "-c", start, *map(str, words)]
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - begin
        if status:
            raise SystemExit(f"{command} must succeed to be timed, not say: {said.decode()}")
        return Took(took, usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Measure, print, write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="Another checkout.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=RESULTS / "start.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for place in ("before", "after"):
            (work / place).mkdir()
        pair = (
            Installed.of(options.before.resolve(), work / "before"),
            Installed.of(ROOT, work / "after"),
        )
        words = commands(work, options.images)
        about = {
            "processors": processors(), "rounds": options.rounds, "images": options.images,
            "before": pair[0].commit, "ours": pair[1].commit,
        }  # fmt: skip
        found = json.loads(options.out.read_text()) if options.out.exists() else {"rows": []}
        rows = {row["what"]: row for row in found["rows"]}
        for what in options.only:
            row = measured(what, pair, words[what.partition(",")[0]], options.rounds)
            rows[what] = about | {"load": round(os.getloadavg()[0], 1)} | row
            print(", ".join(f"{key} {value}" for key, value in rows[what].items()), flush=True)
            listed = [rows[name] for name in NAMES if name in rows]
            options.out.write_text(json.dumps({"rows": listed}, indent=1) + "\n")
    if options.out == RESULTS / "start.json":
        write_starting()


def commands(work: Path, images: int) -> dict[str, Sequence[object]]:
    """The words of each command, and the files that it reads."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    models = {}
    for net in ("fcos-nano", "retinanet-small"):
        models[net] = work / f"{net}.intaglio"
        save(quantize(zoo.load(net), pixels, QuantConfig(wbits=4, abits=4)).program, models[net])
    picture, data = work / "picture.png", work / "scenes"
    Image.fromarray(pixels[0].transpose(1, 2, 0)).save(picture)
    data.mkdir()
    listed = write_scenes(data, images, 96, 0, "held-out")
    boxes = ("--images", data / "images", "--data", listed, "--predictions", "boxes.json")
    return {
        "run": ("run", models["fcos-nano"], picture, "-o", "seen"),
        "info": ("info", models["fcos-nano"]),
        "version": ("--version",),
        "eval": ("eval", models["retinanet-small"], *boxes, "--json", "eval.json"),
        "demo": ("demo", "-o", "demo", "--json", "demo.json"),
    }


def measured(
    what: str, pair: Sequence[Installed], words: Sequence[object], rounds: int
) -> dict[str, Any]:
    """A row."""
    cold = what.endswith("cold")
    took: list[list[Took]] = [[], []]
    for one in () if cold else pair:
        one.run(*words)
    for _ in range(rounds):
        for one, kept in zip(pair, took, strict=True):
            if cold:
                one.forget()
            kept.append(one.run(*words))
    before, after = took
    row: dict[str, Any] = {"what": what}
    for name, runs in (("before", before), ("after", after)):
        row[f"{name}_s"] = round(statistics.median(run.seconds for run in runs), 3)
        row[f"{name}_cpu_s"] = round(statistics.median(run.cpu for run in runs), 3)
    for name, key in (("ratio", "seconds"), ("cpu_ratio", "cpu")):
        ratios = [getattr(a, key) / getattr(b, key) for b, a in zip(before, after, strict=True)]
        row[name] = round(statistics.median(ratios), 3)
        row[f"{name}_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
    found = [FIGURES[what](one.folder) for one in pair if what in FIGURES]
    if found:
        row["same"] = found[0] == found[1]
        assert row["same"], f"figures must be those of the other checkout, not {found}"
    return row


def evaluated(folder: Path) -> object:
    """The boxes that `eval` found, and the figures of them."""
    made = json.loads((folder / "eval.json").read_text())
    return (folder / "boxes.json").read_bytes(), made["figures"], made["classes"], made["images"]


def shown(folder: Path) -> object:
    """What a demo says of its network and its hardware."""
    numbers = json.loads((folder / "demo.json").read_text())
    assert numbers["mismatches"] == 0
    return {name: value for name, value in numbers.items() if not name.startswith("seconds")}


FIGURES = {"eval": evaluated, "demo, cold": shown}


if __name__ == "__main__":
    main()
