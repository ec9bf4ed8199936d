"""Queue depths in RTL: python benchmarks/codegen/fifos.py [--networks N] [--shallow N]

Random networks of forks and joins (tests/networks.py), built at their computed queue depths. Of
each: frames back to back take the predicted cycles; with random pauses on every port, three
patterns, nothing stops and every output is the simulator's; and, of the first --shallow networks,
each queue of more than one place is built with a place less, which must lose cycles or stop the
design for good, as predicted.

Written to the key "fifos" of results/hw.json after each network; a stopped run goes on where it
stopped, `--anew` begins again. Needs Icarus Verilog.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from hw_json import HW_JSON, put
from networks import fork_join
from shallow import Design

PAUSES = (1, 2, 3)
COUNTS = ("networks", "made_shallow", "queues", "deeper_than_1", "shown_loss", "shown_deadlock",
          "shown_nothing", "not_as_predicted", "runs_with_pauses", "deadlocks",
          "mismatches")  # fmt: skip


def measure(seed: int, shallow: bool, counts: dict[str, int]) -> None:
    """One network, added to the counts; its queues made shallower or not."""
    program, extra = fork_join(seed), random.Random(seed).randint(10, 60)
    with tempfile.TemporaryDirectory() as folder:
        design = Design(program, extra, Path(folder))
        plain = design.play()
        counts["not_as_predicted"] += plain.interval != design.schedule.interval
        counts["mismatches"] += plain.mismatches
        for stalls in PAUSES:
            run = design.play(stalls=stalls)
            counts["runs_with_pauses"] += 1
            counts["deadlocks"] += not run.finished
            counts["mismatches"] += run.mismatches
        counts["networks"] += 1
        if not shallow:
            return
        counts["made_shallow"] += 1
        counts["queues"] += len(design.depths)
        for queue in design.shallow():
            counts["deeper_than_1"] += 1
            counts[key(queue.shows)] += 1
            if queue.shows in ("nothing", "not as predicted"):
                print(f"network {seed}: {queue}", flush=True)


def key(shows: str) -> str:
    """The count that a queue goes to."""
    return "not_as_predicted" if shows == "not as predicted" else f"shown_{shows}"


def main() -> int:
    """Measure, print, write; 1 where anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--shallow", type=int, default=60)
    parser.add_argument("--anew", action="store_true", help="forget what was measured")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(HW_JSON.read_text("utf-8")) if HW_JSON.exists() else {}
    counts = dict.fromkeys(COUNTS, 0)
    if not options.anew:
        counts |= found.get("fifos", {})
    for seed in range(counts["networks"], options.networks):
        measure(seed, seed < options.shallow, counts)
        put("fifos", counts)
    print(json.dumps(counts, indent=1))
    bad = ("shown_nothing", "not_as_predicted", "deadlocks", "mismatches")
    return int(any(counts[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
