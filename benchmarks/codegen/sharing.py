"""Shared engines: python benchmarks/codegen/sharing.py [MODEL.intaglio TARGET FPS]

What small heads of two towers (tests/networks.py), or a model of yours, take of a target at a rate,
without and with `share=True`, as `intaglio build` estimates it; and the bits of queues of random
parallel convolutions on shared engines, by the order in which their frames take turns.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from networks import parallel, towers

from intaglio.codegen.area.devices import device
from intaglio.codegen.folding import share
from intaglio.codegen.folding.design import Design, designed, scheduled
from intaglio.codegen.schedule.activity import memory
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import Key, hardware_graph
from intaglio.errors import BuildError
from intaglio.file import load
from intaglio.program import Program

RATES = (("ice40-up5k", 12.0, 1000.0), ("ecp5-25k", 75.0, 1000.0), ("ecp5-25k", 75.0, 8000.0))
SHAPES = ((2, 4), (4, 2), (4, 3))  # channels and depth of the towers
NETWORKS = 60


def row(name: str, program: Program, target: str, clock: float, fps: float) -> None:
    """One network at one rate: unshared / shared."""
    found: list[Design | None] = []
    for asked in (False, True):
        try:
            found.append(designed(program, device(target), fps, None, clock, share=asked))
        except BuildError:
            found.append(None)
    cells = [
        " / ".join("-" if d is None else f"{getattr(d.resources, what):,g}" for d in found)
        for what in ("luts", "ffs", "rams", "multipliers")
    ]
    last = found[-1]
    frames = sum(len(e["tensors"]) for e in last.sharing_json()["engines"]) if last else 0
    print(f"| {name} | `{target}` | {fps:g} | {' | '.join(cells)} | {frames} |", flush=True)


def queue_bits(program: Program, sharing: Sequence[Key], extra: int) -> int:
    """Of a design with those engines, `extra` multipliers above the fewest."""
    graph = hardware_graph(program, sharing)
    least = plan_for_cycles(graph, 1 << 62).multipliers
    _, top, _ = scheduled(graph, plan_for_multipliers(graph, least + extra), device("generic"))
    return memory(top)["queues"]


def orders() -> None:
    """Queue bits when of equal frames the first to come goes first, and when the first in the
    Program does."""
    total, count = [0, 0], 0
    for seed in range(NETWORKS):
        program = parallel(seed)
        graph = hardware_graph(program)
        groups = share.parallel(graph)
        if not groups:
            continue
        come = share.arrivals(graph, groups)
        count += 1
        for k, turns in enumerate((come, dict.fromkeys(come, 0))):
            keys = [share.in_turn(graph, [graph.blocks[b] for b in g], turns) for g in groups]
            total[k] += queue_bits(program, keys, 5 * (seed % 7))
    less = 1 - total[0] / total[1]
    print(f"\n{count} networks: {less:.1%} fewer bits of queues by arrival than by program.")


def main() -> int:
    """Print both."""
    print(
        "| network | device | frames/s | LUTs | flip-flops | block RAMs | multipliers | frames that"
        " share |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    if len(sys.argv) == 4:
        model, target, fps = sys.argv[1:]
        row(Path(model).stem, load(model), target, 75.0, float(fps))
        return 0
    for channels, depth in SHAPES:
        for target, clock, fps in RATES:
            program = towers(size=(6, 6), channels=channels, depth=depth)
            row(f"towers of {depth}, {channels} channels", program, target, clock, fps)
    orders()
    return 0


if __name__ == "__main__":
    sys.exit(main())
