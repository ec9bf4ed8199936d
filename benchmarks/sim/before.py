"""Speed and memory of this tree's simulator beside those of another tree.

python benchmarks/sim/before.py --before PATH [--net NAME ...] [--isa ISA] [--threads N]

The other tree (a checkout, `git worktree add PATH COMMIT`) and this one each run in a process of
their own, on the same Programs and images, turn by turn: an untimed call, then a timed one. A ratio
is the other tree's seconds by this one's, round by round, above 1 where this one is faster: of the
processor's time where one thread runs, which others on the machine do not add to, else of the
clock's. The integers of both are compared. Printed, and with --out written as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[2]


def main() -> None:
    """Compare the two trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--net", nargs="+", default=["retinanet-r18:512", "fcos-nano"])
    parser.add_argument("--bits", nargs="+", default=["8", "4"], help="8, or 4:6 for W4A6.")
    parser.add_argument("--isa", help="of both; default: the best of each.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for net in options.net:
            for path, widths in programs(net, options.bits, Path(folder)):
                row = {"net": net, "widths": widths, "threads": options.threads}
                row |= compared(path, options)
                print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                rows.append(row)
    if options.out:
        options.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def programs(net: str, bits: list[str], folder: Path) -> list[tuple[Path, str]]:
    """Files of a network's Programs: NAME, or NAME:SIZE."""
    import numpy as np
    import torch
    from detectors import find

    from intaglio.file import save
    from intaglio.quant import QuantConfig, quantize

    torch.set_num_threads(1)
    model, size = find(net)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, size, size), dtype=np.uint8)
    made = []
    for each in bits:
        wbits, abits = map(int, (each.split(":") * 2)[:2])
        config = QuantConfig(method="minmax", wbits=wbits, abits=abits, compensate=False)
        path = folder / f"{net.replace(':', '-')}-{wbits}-{abits}.intaglio"
        save(quantize(model, images, config).program, path)
        made.append((path, f"W{wbits}A{abits}"))
    return made


def compared(path: Path, options: Any) -> dict[str, Any]:
    """Median, smallest and largest ratio, memory of both, and whether their integers agree."""
    settings = [str(path), options.isa or "", str(options.threads)]
    workers = [start(tree, settings) for tree in (options.before, HERE)]
    try:
        first = [ask(worker, "digest") for worker in workers]
        times = [[ask(worker, "time") for worker in workers] for _ in range(options.rounds)]
        peaks = [ask(worker, "peak") for worker in workers]
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait()
    clock = "cpu" if options.threads == 1 else "wall"
    ratios = sorted(before[clock] / now[clock] for before, now in times)
    return {
        "before": commit(options.before),
        "isa": first[1]["isa"],
        "isa_before": first[0]["isa"],
        "clock": clock,
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        "best": round(min(b[clock] for b, _ in times) / min(n[clock] for _, n in times), 3),
        "milliseconds": round(1000 * statistics.median(now[clock] for _, now in times), 3),
        "peak_mib": [round(peak["mib"]) for peak in peaks],
        "same_integers": first[0]["digest"] == first[1]["digest"],
    }


def start(tree: Path, settings: list[str]) -> Any:
    """A process that has the tree's package."""
    environment = os.environ | {"PYTHONPATH": str(tree.resolve())}
    command = [sys.executable, __file__, "--worker", *settings]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(worker: Any, word: str) -> dict[str, Any]:
    """One answer of a process."""
    print(word, file=worker.stdin, flush=True)
    answer: dict[str, Any] = json.loads(worker.stdout.readline())
    return answer


def commit(tree: Path) -> str:
    """The tree's commit, short."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def work(path: str, isa: str, threads: str) -> None:
    """Answer on the standard output what is asked for on the standard input."""
    import numpy as np

    from intaglio.file import load
    from intaglio.sim.engine import Simulator

    program = load(path)
    simulator = Simulator(program, threads=int(threads), isa=isa or None)  # type: ignore[arg-type]  # as stated
    (x,) = program.inputs
    image = np.random.default_rng(1).integers(0, 256, (1, *x.shape), dtype=np.uint8)
    for word in map(str.strip, sys.stdin):
        found = simulator(image)
        answer: dict[str, Any] = {}
        if word == "digest":
            made = b"".join(found[name].tobytes() for name in sorted(found))
            answer = {"digest": hashlib.sha256(made).hexdigest(), "isa": simulator._plan.isa}
        elif word == "peak":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            answer = {"mib": usage.ru_maxrss / 1024}
        else:
            count = max(1, round(0.02 / seconds(simulator, image, 1)["wall"]))
            answer = seconds(simulator, image, count)
        print(json.dumps(answer), flush=True)


def seconds(simulator: Any, image: Any, count: int) -> dict[str, float]:
    """Of an image: the processor's, and the clock's; the mean of so many calls."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        simulator(image)
    return {
        "cpu": (time.process_time() - cpu) / count,
        "wall": (time.perf_counter() - wall) / count,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
