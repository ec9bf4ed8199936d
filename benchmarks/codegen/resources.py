"""Predicted and synthesised resources.

python benchmarks/codegen/resources.py [--target NAME ...] [--fit]

Random and hand-made small networks, 4 and 8 bits wide, and layers as `fcos-nano` has them, built in
several foldings and synthesised by yosys without place and route. What `build` predicted and what
yosys counted is a row for each kind of resource, under the key "resources" of results/hw.json. What
is there is not made again (--anew: it is), so a run that was cut off goes on. The table of errors
in docs/hardware.md is rewritten.

--fit prints the weights of `mapping.WEIGHTS` for a family, fitted to single blocks, each
synthesised alone, of networks that are not among those compared.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from hw_json import HW_JSON, put

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from networks import Layers, pyramid, skip

from intaglio.chip.synthesis import FOLDER, synthesise
from intaglio.codegen.area.area import Area
from intaglio.codegen.area.blocks import area_of
from intaglio.codegen.area.devices import device
from intaglio.codegen.area.mapping import LOGIC, need
from intaglio.codegen.bundle import build
from intaglio.codegen.folder.bench import verilog_file
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.codegen.folding.design import fitted
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.codegen.structure.verilog import to_verilog_block
from intaglio.fixed import IntType
from intaglio.hdl.pack import hex_text
from intaglio.ops import Concat, MaxPool2d, Upsample
from intaglio.program import Program
from intaglio.system.disk import write_text

KINDS = (("LUT", "luts"), ("FF", "ffs"), ("block RAM", "rams"), ("DSP", "multipliers"))
PAGE = Path(__file__).parent.parent.parent / "docs" / "hardware.md"
START, END = "<!-- table: python benchmarks/codegen/resources.py -->\n", "<!-- end of errors -->\n"
U8, I8 = IntType(8, False), IntType(8, True)


@dataclass(frozen=True)
class Case:
    """A network in a device; `options` are those of `build`."""

    net: str
    target: str
    program: Callable[[], Program]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Network and folding."""
        said = " ".join(f"{key}={value:g}" for key, value in self.options.items())
        return f"{self.net} {said}".strip()


def layer(channels: int, size: int, kernel: int, bits: int = 4, groups: int = 1) -> Program:
    """One convolution as in fcos-nano, behind one that makes its channels."""
    net = Layers((3, size, size), seed=channels + kernel)
    type, weight = IntType(bits, False), IntType(bits, True)

    def weights(name: str, shape: tuple[int, int, int, int]) -> str:
        values = net.rng.integers(weight.lo, weight.hi + 1, shape)
        return net.builder.constant(name, values, weight)

    x = net.conv("first", "image", weights("w0", (channels, 3, 1, 1)), type=type)
    w = weights("w1", (channels, channels // groups, kernel, kernel))
    y = net.conv("second", x, w, groups=groups, type=type)
    if groups > 1:
        y = net.conv("third", y, weights("w2", (channels, channels, 1, 1)), type=type)
    return net.finish([y])


def branches() -> Program:
    """A pool, an upsampling and a concatenation."""
    net = Layers((3, 12, 10), seed=3)
    b = net.builder
    x = net.conv("first", "image", net.weights("w0", 6, 3, 3))
    pool = b.add(MaxPool2d(output="pool", input=x, kernel=(2, 2), stride=(2, 2), origin="pool"))
    deep = net.conv("deep", pool, net.weights("w1", 4, 6, 3))
    up = b.add(Upsample(output="up", input=deep, size=(12, 10), origin="up"))
    both = b.add(Concat(output="both", parts=(x, up), origin="both"))
    return net.finish([net.conv("last", both, net.weights("w2", 5, 10, 1))])


def cases() -> list[Case]:
    """Those compared."""

    def random_pyramid(seed: int) -> Program:
        rng = np.random.default_rng(seed)
        sizes, widths = rng.integers(9, 15, 2).tolist(), rng.integers(3, 9, 4).tolist()
        return pyramid(seed, (sizes[0], sizes[1]), (widths[0], widths[1], widths[2], widths[3]))

    def as_nano(channels: int, size: int, kernel: int) -> Callable[[], Program]:
        return lambda: layer(channels, size, kernel)

    small = [
        Case("skip", "ecp5-85k", skip, {"lanes": 6}),
        Case("skip", "ecp5-85k", skip),
        Case("skip of odd weights", "ecp5-85k", lambda: skip(odd=(2, 3)), {"lanes": 30}),
        Case("branches", "ecp5-85k", branches, {"lanes": 20}),
        Case("branches", "ecp5-85k", branches),
        Case("24 to 24, 3x3, W4A4", "ecp5-85k", as_nano(24, 32, 3), {"lanes": 8}),
        Case("24 to 24, 3x3, W4A4", "ecp5-85k", as_nano(24, 32, 3), {"lanes": 60}),
        Case("24 to 24, 3x3, W4A4", "ecp5-85k", as_nano(24, 32, 3), {"fps": 2000}),
        Case("48 to 48, 1x1, W4A4", "ecp5-85k", as_nano(48, 16, 1), {"lanes": 40}),
        Case("16 to 16, 3x3, W8A8", "ecp5-85k", lambda: layer(16, 24, 3, 8), {"lanes": 24}),
        Case("16 to 16, 3x3, W8A8", "ecp5-85k", lambda: layer(16, 24, 3, 8), {"fps": 2000}),
        Case("depthwise 12, W4A4", "ecp5-85k", lambda: layer(12, 16, 3, 4, 12), {"lanes": 24}),
        Case("depthwise 8, W8A8", "ecp5-85k", lambda: layer(8, 16, 3, 8, 8), {"lanes": 16}),
    ]
    more = [
        Case(f"pyramid {seed}", "ecp5-85k", partial(random_pyramid, seed), {"lanes": 40 * seed})
        for seed in (2, 3)
    ]
    elsewhere = [
        replace(case, target=target)
        for target in ("ice40-up5k", "xc7z020")
        for case in (small[0], small[5], small[9], small[11])
    ]
    elsewhere[2] = replace(elsewhere[2], options={"lanes": 16})  # more do not fit there
    return small + elsewhere + more


def synthesised(case: Case) -> tuple[dict[str, float], dict[str, float]]:
    """What `build` predicts of a case, and what yosys counts."""
    bundle = build(case.program(), target=case.target, **case.options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "build"
        bundle.write(folder)
        (folder / FOLDER).mkdir()
        found = synthesise(folder, device(case.target), "top", SOURCES)
    return bundle.manifest["resources"], found


def rows_of(case: Case) -> list[dict[str, Any]]:
    """A row for each kind."""
    predicted, found = synthesised(case)
    return [
        {"net": case.name, "target": case.target, "kind": kind,
         "predicted": predicted[key], "synthesised": found[key]}
        for kind, key in KINDS
    ]  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Errors as Markdown: by target and kind, then by network."""
    lines = ["| device | kind | designs | equal | median error | largest error |",
             "| --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for target in sorted({row["target"] for row in rows}):
        for kind, _ in KINDS:
            chosen = [r for r in rows if (r["target"], r["kind"]) == (target, kind)]
            errors = [error(r) for r in chosen]
            equal = sum(r["predicted"] == r["synthesised"] for r in chosen)
            lines.append(
                f"| `{target}` | {kind} | {len(chosen)} | {equal} |"
                f" {median(map(abs, errors)):.1%} | {max(errors, key=abs):+.1%} |"
            )
    lines += ["", "| network | device | LUTs | flip-flops | block RAMs | DSPs |",
              "| --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for net, target in dict.fromkeys((r["net"], r["target"]) for r in rows):
        own = {r["kind"]: r for r in rows if (r["net"], r["target"]) == (net, target)}
        cells = [f"{own[k]['predicted']:,g} / {own[k]['synthesised']:,g}" for k, _ in KINDS]
        lines.append(f"| {net} | `{target}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def place(row: Mapping[str, Any]) -> tuple[int, int]:
    """Of a row among the others: that of its case, then of its kind."""
    order = [(case.name, case.target) for case in cases()]
    return order.index((row["net"], row["target"])), [k for k, _ in KINDS].index(row["kind"])


def error(row: Mapping[str, Any]) -> float:
    """Of the prediction, relative to what was synthesised."""
    return float((row["predicted"] - row["synthesised"]) / max(1, row["synthesised"]))


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rewrite the table between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(START, 1)
    write_text(PAGE, head + START + table(rows) + END + rest.split(END, 1)[1])


def training() -> list[tuple[Program, int | None]]:
    """Networks whose single blocks the weights are fitted to, and their lanes."""
    return [
        (pyramid(11, (10, 12), (4, 6, 5, 8)), 60),
        (layer(20, 20, 3), 70),
        (layer(6, 14, 3, 8, 6), 20),
        (layer(10, 10, 3, 8), 30),
    ]


def blocks(target: str) -> Iterator[tuple[Area, dict[str, float]]]:
    """Every different block of the training networks: its area, and what yosys makes of it."""
    chip, seen = device(target), set()
    for program, lanes in training():
        _, top, _ = fitted(hardware_graph(program), chip, None, lanes, 75.0)
        for component in components(top):
            text = to_verilog_block(component, "top")
            if text in seen:
                continue
            seen.add(text)
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                (folder / FOLDER).mkdir()
                (folder / "rtl").mkdir()
                (folder / "rom").mkdir()
                (folder / SOURCES[0]).write_text(text)
                (folder / SOURCES[1]).write_text(verilog_file("intaglio_rom.v"))
                for rom in getattr(component, "roms", ()):
                    (folder / rom.file).write_text(hex_text(rom.words, rom.width))
                yield area_of(component), synthesise(folder, chip, "top", SOURCES)


def components(top: Top) -> list[Any]:
    """Those with logic of their own."""
    return [c for c, cell in zip(top.components, top.netlist.cells, strict=True)
            if cell.kind not in ("source", "sink", "concat")]  # fmt: skip


def fit(target: str) -> None:
    """Print the weights: non-negative least squares, errors relative to the root of the size."""
    from scipy.optimize import nnls

    chip = device(target)
    counted, left, scale = [], [], []
    for area, found in blocks(target):
        rest = need(replace(area, **dict.fromkeys(LOGIC, 0)), chip)
        counted.append([getattr(area, name) for name in LOGIC])
        left.append(found["luts"] - rest.luts)
        scale.append(max(30.0, found["luts"]) ** -0.5)
        print(json.dumps({"area": counted[-1], "luts": left[-1],
                          "ffs": [need(area, chip).ffs, found["ffs"]]}), flush=True)  # fmt: skip
    a, b, s = np.array(counted), np.array(left), np.array(scale)
    weights, _ = nnls(a * s[:, None], b * s)
    print(dict(zip(LOGIC, weights.round(2).tolist(), strict=True)), f"from {len(b)} blocks")


def main() -> int:
    """Build, synthesise, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", nargs="*", default=None)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--fit", metavar="TARGET")
    options = parser.parse_args()
    if options.fit:
        fit(options.fit)
        return 0
    stored = json.loads(HW_JSON.read_text(encoding="utf-8")) if HW_JSON.exists() else {}
    known = {(case.name, case.target) for case in cases()}
    rows = [r for r in stored.get("resources", []) if (r["net"], r["target"]) in known]
    for case in cases():
        others = [r for r in rows if (r["net"], r["target"]) != (case.name, case.target)]
        there = len(others) < len(rows) and not options.anew
        if there or (options.target and case.target not in options.target):
            continue
        made = rows_of(case)
        print(case.target, case.name, *(f"{r['kind']} {r['predicted']:g}/{r['synthesised']:g}"
                                        for r in made), flush=True)  # fmt: skip
        rows = sorted(others + made, key=place)  # what is not made now stays
        put("resources", rows)
    write_page(rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
