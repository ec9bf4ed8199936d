"""What quantisation does to each layer, and where the fake-quantised model and integers part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import log10
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.ops import Conv2d
from intaglio.program import Program
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.graph import PASSING, Conv, FloatGraph, Image, Node
from intaglio.quant.lowering.shares import Shares, of_tensor, of_weights, to_json
from intaglio.quant.ranges.fake import FakeQuant
from intaglio.quant.ranges.observe import batches
from intaglio.quant.ranges.scales import Calibration
from intaglio.quant.search.detptq import Choice


@dataclass(frozen=True)
class LayerReport:
    """One requantised tensor, measured against the real-valued network.

    layer, op     the tensor's name and what makes it
    weights       type of the weights, or "odd2" for odd ones of 2 code bits, "" without;
                  `weight_sqnr` their signal to error in dB
    codes         type of the result's codes; `why` says why they are wider than the network's
    lo, hi        the real range the codes span; `clipped` is the share of values beyond it
    sqnr          signal to error in dB of the Program's integers, run in the simulator, with the
                  errors of all layers before it; `fake_sqnr` that of the fake-quantised twin, which
                  is the same but for multipliers M / 2^S
    acc_bits      the accumulator's proved width; None where there is none
    p, weight_p   of the Lp metric, as DetPTQ chose them for the codes and the weights; else None
    odol          {p: ODOL over that of the chosen p} of the codes, `weight_odol` of the weights
    shares        how often values and codes are seen, as `shares.to_json` has them
    """

    layer: str
    op: str
    weights: str
    weight_sqnr: float | None
    codes: str
    why: str
    lo: float
    hi: float
    clipped: float
    sqnr: float
    fake_sqnr: float
    acc_bits: int | None
    p: float | None = None
    weight_p: float | None = None
    odol: Mapping[float, float] = field(default_factory=dict)
    weight_odol: Mapping[float, float] = field(default_factory=dict)
    shares: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """Text: layer, weights, codes, range, clip %, SQNR dB of integers and of the fake-quantised
        twin, acc, p of weights and codes."""
        return (
            self.layer,
            self.weights or "-",
            f"{self.codes} ({self.why})" if self.why else self.codes,
            f"[{self.lo:.3g}, {self.hi:.3g}]",
            f"{100 * self.clipped:.2f}",
            f"{self.sqnr:.1f}",
            f"{self.fake_sqnr:.1f}",
            "-" if self.acc_bits is None else str(self.acc_bits),
            " ".join("-" if p is None else f"{p:g}" for p in (self.weight_p, self.p)),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


class Sums:
    """Signal and error energy, and values beyond the range, added up over batches."""

    def __init__(self) -> None:
        self.signal = self.error = self.fake_error = self.clipped = self.count = 0.0
        self.codes: Any = 0  # how often each of the type's was seen

    def add(
        self, real: torch.Tensor, made: torch.Tensor, fake: torch.Tensor, lo: float, hi: float
    ) -> None:
        """One batch: of the real values, of what the integers stand for, and of the twin."""
        self.signal += float(real.double().square().sum())
        self.error += float((made - real).double().square().sum())
        self.fake_error += float((fake - real).double().square().sum())
        self.clipped += float(((real < lo) | (real > hi)).sum())
        self.count += real.numel()


def sqnr(signal: float, error: float) -> float:
    """10 log10(signal / error); 200 for no error, 0 for no signal."""
    if error <= signal * 1e-20:
        return 200.0
    return max(10 * log10(signal / error), -200.0) if signal > 0 else 0.0


def layer_reports(
    graph: FloatGraph,
    fake: FakeQuant,
    program: Program,
    calibration: Calibration,
    images: NDArray[np.uint8],
    choices: Sequence[Choice] = (),
) -> tuple[LayerReport, ...]:
    """One row per requantised tensor, in order; `graph` is the real-valued network, and `choices`
    are those of a DetPTQ search."""
    from intaglio.sim.engine import Simulator

    sums: dict[str, Sums] = {}
    simulator = Simulator(program, trace=True)
    with torch.no_grad():
        for pixels in batches(images, fake.dtype):
            integers = simulator(pixels.numpy().astype(np.uint8))
            real: dict[str, torch.Tensor] = {}

            def remember(node: Node, value: torch.Tensor, real: Any = real) -> torch.Tensor:
                real[node.output] = value
                return value

            def compare(
                node: Node, value: torch.Tensor, real: Any = real, integers: Any = integers
            ) -> torch.Tensor:
                grid = fake.scales.grids[node.output]
                half = grid.scale / 2
                lo, hi = grid.range
                row = sums.setdefault(node.output, Sums())
                codes = integers[node.output]
                made = grid.real(torch.from_numpy(codes).double())
                seen = codes.reshape(-1).astype(np.int64) - grid.type.lo
                row.codes = row.codes + np.bincount(seen, minlength=grid.type.hi - grid.type.lo + 1)
                row.add(real.pop(node.output), made, value, lo - half, hi + half)
                return value

            run(graph, pixels, visit=remember)
            fake.run(pixels, compare)
    group_of = {tensor: g for g in calibration.groups for tensor in g.tensors}
    by_name = {(choice.kind, choice.name): choice for choice in choices}
    rows = []
    for node in fake.graph.nodes:
        if isinstance(node, (Image, *PASSING)):
            continue
        group = group_of[node.output]
        made = row(fake, program, node, sums[node.output], group.why)
        seen_before = calibration.seen[group.tensors[0]]
        grid = fake.scales.grids[node.output]
        found: dict[str, Shares | None] = {
            "tensor": of_tensor(seen_before, grid, sums[node.output].codes)
        }
        if isinstance(node, Conv):
            weight = fake.graph.weights[node.weight]
            found["weights"] = of_weights(weight, fake.scales.weights[node.weight])
        made = replace(made, shares=to_json(found))
        codes = by_name.get(("codes", group.tensors[0]))
        if codes is not None:
            made = replace(made, p=codes.p, odol=codes.curve)
        weights = by_name.get(("weights", node.weight)) if isinstance(node, Conv) else None
        if weights is not None:
            made = replace(made, weight_p=weights.p, weight_odol=weights.curve)
        rows.append(made)
    return tuple(rows)


def row(fake: FakeQuant, program: Program, node: Node, sums: Sums, why: str) -> LayerReport:
    """One layer's report."""
    grid = fake.scales.grids[node.output]
    weights, weight_sqnr, acc_bits = "", None, None
    if isinstance(node, Conv):
        codes, real = fake.scales.weights[node.weight], fake.graph.weights[node.weight]
        weights = f"odd{codes.code_bits}" if codes.odd else str(codes.type)
        error = float(np.square(codes.real - real).sum())
        weight_sqnr = sqnr(float(np.square(real).sum()), error)
        conv = program.producer[f"{node.output}.acc"]
        assert isinstance(conv, Conv2d)
        acc_bits = program.tensors[conv.output].type.bits
    return LayerReport(
        layer=node.output,
        op=type(node).__name__,
        weights=weights,
        weight_sqnr=weight_sqnr,
        codes=str(grid.type),
        why=why,
        lo=grid.range[0],
        hi=grid.range[1],
        clipped=sums.clipped / max(sums.count, 1),
        sqnr=sqnr(sums.signal, sums.error),
        fake_sqnr=sqnr(sums.signal, sums.fake_error),
        acc_bits=acc_bits,
    )


@dataclass(frozen=True)
class Difference:
    """Codes of one tensor in which the fake-quantised model and the Program differ.

    `differing` of `values`, by at most `largest`. `own` counts those left when the layer is given
    the Program's own inputs: what this layer adds, and not what it inherits; by at most
    `largest_own`.
    """

    tensor: str
    values: int
    differing: int
    largest: int
    own: int
    largest_own: int


@dataclass(frozen=True)
class Differences:
    """Per tensor, in order."""

    rows: tuple[Difference, ...]

    @property
    def first(self) -> Difference | None:
        """The first tensor with a difference."""
        return next((row for row in self.rows if row.differing), None)

    @property
    def differing(self) -> int:
        """Differing codes of all tensors together."""
        return sum(row.differing for row in self.rows)

    @property
    def values(self) -> int:
        """Codes compared."""
        return sum(row.values for row in self.rows)

    def markdown(self) -> list[str]:
        """Lines of a table and a sentence."""
        start = "none differs" if self.first is None else f"the first in `{self.first.tensor}`"
        lines = [
            f"{self.differing:,} of {self.values:,} codes differ ({start}). `own` counts what a"
            " layer adds when it reads the integers' own inputs.",
            "",
            "| tensor | codes | differing | largest | own | largest own |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for r in self.rows:
            cells = (r.values, r.differing, r.largest, r.own, r.largest_own)
            lines.append(f"| {r.tensor} | " + " | ".join(f"{c:,}" for c in cells) + " |")
        return lines


def differences(
    fake: FakeQuant, integers: Mapping[str, NDArray[np.integer[Any]]], images: NDArray[np.uint8]
) -> Differences:
    """Compare the fake-quantised model with a simulator's tensors of the same images, by name."""
    free, given = fake.codes(images), fake.codes_given(images, integers)
    rows = []
    for node in fake.graph.nodes:
        if isinstance(node, (Image, *PASSING)):
            continue
        theirs = integers[node.output].astype(np.int64)
        mine, own = np.abs(free[node.output] - theirs), np.abs(given[node.output] - theirs)
        rows.append(
            Difference(
                node.output,
                theirs.size,
                int((mine > 0).sum()),
                int(mine.max(initial=0)),
                int((own > 0).sum()),
                int(own.max(initial=0)),
            )
        )
    return Differences(tuple(rows))
