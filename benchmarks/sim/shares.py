"""What each kind of operation takes of a network's time in the simulator.

python benchmarks/sim/shares.py

One thread; every step of an image is run by itself, as often as rounds are asked for, and the best
of its times is kept, less what calling a step takes. Written to results/shares.json, and
docs/speed.md from it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectors import find

from intaglio.ops import Conv2d, Op
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim import workspace
from intaglio.sim.engine import numpy_type
from intaglio.sim.isa import choose
from intaglio.sim.plan import Node, make_plan

RESULTS = Path(__file__).parent.parent / "results" / "shares.json"
NETS = ("retinanet-r18:512", "retinanet-small", "fcos-nano", "yolo-like:320", "ssd-like:320")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", nargs="+", default=NETS)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measured(net, bits, options.rounds)
        for net in options.net
        for bits in ((8, 4) if net.startswith("retinanet-r18") else (8,))
    ]
    options.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def measured(net: str, bits: int, rounds: int) -> dict[str, Any]:
    """A row: the network, the instruction set, milliseconds, shares by kind."""
    model, size = find(net)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, size, size), dtype=np.uint8)
    config = QuantConfig(method="minmax", wbits=bits, abits=bits, compensate=False)
    program = quantize(model, images, config).program
    times = steps_of(program, images[:1], rounds)
    total = sum(times.values())
    row = {
        "net": net.partition(":")[0],
        "size": size,
        "widths": f"W{bits}A{bits}",
        "isa": choose(None),
        "milliseconds": round(total * 1000, 3),
        "shares": {kind: round(t / total, 3) for kind, t in times.most_common()},
    }
    print(row, flush=True)
    return row


class Named(workspace.Binder):
    """Remembers what each step is for."""

    def bind(self, node: Node) -> None:
        before = len(self.steps)
        super().bind(node)
        self.names += [kind_of(self.program, node.op)] * (len(self.steps) - before)

    def call(self, *arguments: Any, **how: Any) -> None:
        if not self.steps:
            self.names = ["pixels in"]
        super().call(*arguments, **how)


def kind_of(program: Program, op: Op) -> str:
    """In the page's words."""
    if not isinstance(op, Conv2d):
        return type(op).__name__
    cout, cin, kh, kw = program.constants[op.weight].array.shape
    if op.input in {x.name for x in program.inputs}:
        return "stem"
    return "depthwise" if op.groups == cout > 1 and cin == 1 else f"Conv2d {kh}x{kw}"


def steps_of(program: Program, images: Any, rounds: int) -> Counter[str]:
    """Seconds by kind."""
    binders: list[Named] = []

    def named(*arguments: Any) -> Named:
        binders.append(Named(*arguments))
        return binders[-1]

    wanted = {t.name: numpy_type(t.type) for t in program.outputs}
    usual, workspace.Binder = workspace.Binder, named  # type: ignore[assignment, misc]  # for now
    try:
        space = workspace.make_workspace(make_plan(program, isa=choose(None)), wanted)
    finally:
        workspace.Binder = usual  # type: ignore[misc]  # as above
    shapes = {name: (1, *program.tensors[name].shape) for name in wanted}
    results = [np.empty(shapes[name], kind) for name, kind in wanted.items()]
    space.begin(workspace.Batch.of(images), 0, [workspace.Batch.of(array) for array in results])
    space.steps.run()
    function = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * 4)
    names = binders[0].names + ["maps out"] * len(wanted)
    times: Counter[str] = Counter()
    for name, (kernel, arguments, size, _) in zip(names, space.steps.table.tolist(), strict=True):
        call = function(kernel)
        whole, nothing = (
            min(timed(call, arguments, count) for _ in range(rounds)) for count in (size, 0)
        )
        times[name] += max(whole - nothing, 0.0)
    return times


def timed(call: Any, arguments: int, size: int) -> float:
    """Seconds of the processor that one call takes."""
    begin = time.thread_time()
    call(arguments, 0, size, 0)
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
