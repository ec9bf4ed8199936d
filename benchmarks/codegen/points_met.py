"""What the frames of a build meet, beside random ones: python benchmarks/codegen/points_met.py

Networks made by hand (`tests/networks.py`) and two bundled ones at W4A4. A row: points that no
proof excludes, how many of them three random frames and the chosen ones meet, how many are chosen,
and seconds of the processor that the choice takes. Nothing is written.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sim"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

import networks
from cycles import bundled

from intaglio.codegen.bundle import RANDOM
from intaglio.codegen.structure.ports import random_frames
from intaglio.program import Program
from intaglio.stimulus.choose import chosen
from intaglio.stimulus.coverage import covered

BY_HAND = (networks.tiny, networks.skip, networks.pyramid, networks.branches)
BUNDLED = ("fcos-nano", "digits-up5k")


def row(name: str, program: Program) -> str:
    """Of one network."""
    x = program.inputs[0]
    random = random_frames(x.type, x.shape, RANDOM)
    before = covered(program, random)
    started = time.process_time()
    made = chosen(program, random)
    seconds = time.process_time() - started
    after = covered(program, made.frames)
    shares = (f"{one.met:,} ({100 * one.met / one.points:.1f} %)" for one in (before, after))
    cells = (name, f"{before.points:,}", *shares, str(len(made.frames)), f"{seconds:.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """A table."""
    print("| network | points | random | chosen | frames | s |\n|---|---:|---:|---:|---:|---:|")
    for make in BY_HAND:
        print(row(make.__name__, make()), flush=True)
    for name in BUNDLED:
        print(row(name, bundled(name)), flush=True)


if __name__ == "__main__":
    main()
