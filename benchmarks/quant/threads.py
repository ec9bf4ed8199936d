"""Threads of `intaglio quantize`: the default beside one thread, alone and with a busy neighbour.

    python benchmarks/quant/threads.py [--rounds 5] [--model fcos-nano] [--two]

Runs take turns, so that what else the machine does meets all of them alike: in every round once
each with OMP_NUM_THREADS=1 and with nothing stated, alone and beside one process that is always
busy. With --two also with two threads, as torch itself would choose on two processors. Printed are
seconds of each run, and the median over rounds of the ratio to the one-thread run of its round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ALLOWED = 1.3  # of one thread's time


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that always has work, if there is to be one."""
    if not busy:
        yield
        return
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        child.kill()
        child.wait()


def seconds(model: str, folder: Path, threads: str) -> float:
    """Of one run."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "intaglio.cli", "quantize", model, "--images",
         str(folder / "scenes" / "images"), "-o", str(folder / "made.intaglio"), "--force"],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="fcos-nano")
    parser.add_argument("--two", action="store_true")
    options = parser.parse_args()
    kinds = {"one thread": "1", "default": ""} | ({"two threads": "2"} if options.two else {})
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "intaglio.cli", "scenes", "-o", str(folder / "scenes"),
             "--split", "train", "--count", "64", "--seed", "2"],
            check=True, capture_output=True,
        )  # fmt: skip
        seconds(options.model, folder, "1")  # what is compiled once
        for busy in (False, True):
            found: dict[str, list[float]] = {kind: [] for kind in kinds}
            with neighbour(busy):
                for _ in range(options.rounds):
                    for kind, threads in kinds.items():
                        found[kind].append(seconds(options.model, folder, threads))
            print("beside one busy process:" if busy else "alone:")
            for kind, times in found.items():
                ratios = [a / b for a, b in zip(times, found["one thread"], strict=True)]
                shown = " ".join(f"{t:.1f}" for t in times)
                print(f"  {kind:12} {shown} s; {median(ratios):.2f} of one thread's", flush=True)
                failed |= kind == "default" and median(ratios) > ALLOWED
    sys.exit(f"The default must take at most {ALLOWED} of one thread's time." if failed else 0)


if __name__ == "__main__":
    main()
