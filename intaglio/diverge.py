"""One Program under other arithmetic: what its outputs become, and where they first differ.

The tables stay as they are: M, S and, but for the zero point, B. What can be swapped on them is

- the rounding of t / 2^S. Where the own rounding is blind to sign and parity (RND, TRN), B holds
  the output's zero point; for the others it moves to the offset, where `lower` puts it, which
  changes nothing by itself. TRN on tables that were made for another rounding truncates: B holds no
  half for it. Tables made for TRN hold that half, which the others would add again: refused;
- the accumulator: a width, and what happens beyond it;
- a preset whose widths of M, B and S hold the tables. It then has this Program's M and S, and not
  the finer ones that quantising for it would give. Others are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.errors import ProgramError
from intaglio.fixed import PRESETS, ROUNDINGS, Arithmetic, IntType, Overflow, Rounding, SaturateAt
from intaglio.fixed import preset as preset_named
from intaglio.ops import Add, Constant, Conv2d, Op, Requant
from intaglio.program import Builder, Program
from intaglio.sim.compare import Difference, first_difference
from intaglio.sim.engine import Array, Simulator
from intaglio.system.steps import Steps

if TYPE_CHECKING:
    from intaglio.detect.coco import CocoData
    from intaglio.detect.evaluate import EvalResult

Progress = Callable[[int, int], None]

BLIND = ("RND", "TRN")  # roundings that commute with adding an integer
ACCUMULATORS: dict[str, tuple[Overflow, SaturateAt]] = {
    "wrap": ("wrap", "end"),
    "saturate": ("saturate", "end"),
    "saturate-mac": ("saturate", "mac"),
}


@dataclass(frozen=True, eq=False)
class Variant:
    """A Program under the arithmetic called `name`."""

    name: str
    program: Program


# --- other arithmetic on the same tables ----------------------------------------------------------


def rebuilt(program: Program, arithmetic: Arithmetic) -> Program:
    """The same operations and constants under another arithmetic, with every range derived anew.

    Raises ProgramError where a table does not fit it.
    """
    builder = Builder(arithmetic)
    builder.constants = dict(program.constants)
    for op in program.ops:
        tensor = program.tensors[op.output]
        inputs = [builder.tensors[name] for name in op.inputs]
        _, lo, hi = op.infer(inputs, replace(program, arithmetic=arithmetic).context)
        stays = tensor.type.holds(lo, hi)
        if isinstance(op, Conv2d):
            stays = (lo, hi) == (tensor.lo, tensor.hi)
        builder.add(op, tensor.type if stays else None, tensor.scale, tensor.zero_point)
    return builder.build(program.meta)


def rounding_as(program: Program, rounding: Rounding) -> Variant:
    """The Program with another rounding. Raises ProgramError where its tables forbid it."""
    own = program.arithmetic
    moved = for_rounding(program, rounding)
    return Variant(rounding, rebuilt(moved, replace(own, name=own.name, rounding=rounding)))


def preset_as(program: Program, name: str) -> Variant:
    """The Program under a preset. Raises ProgramError where that cannot hold its tables."""
    arithmetic = preset_named(name)
    if arithmetic.product != program.arithmetic.product:
        raise ProgramError(
            f"Arithmetic {name!r} must have tables of its own, as its products are"
            f" {arithmetic.product} and this Program's {program.arithmetic.product}; quantise the"
            f" model again with --arithmetic {name}."
        )
    try:
        return Variant(name, rebuilt(for_rounding(program, arithmetic.rounding), arithmetic))
    except ProgramError as error:
        raise ProgramError(
            f"Arithmetic {name!r} must be able to hold this Program's tables, but"
            f" {str(error).rstrip('.')}; quantise the model again with --arithmetic {name}."
        ) from error


def accumulating_as(program: Program, text: str) -> Variant:
    """The Program with the accumulator written `16`, `16:wrap`, `16:saturate` (once, after the
    exact sum) or `16:saturate-mac` (after every product). Raises ProgramError for other text."""
    width, _, kind = text.partition(":")
    if not width.isdecimal() or (kind or "wrap") not in ACCUMULATORS:
        raise ProgramError(
            f"--acc-bits must be N, N:wrap, N:saturate or N:saturate-mac, like 16:wrap, not"
            f" {text!r}."
        )
    kind = kind or "wrap"
    overflow, at = ACCUMULATORS[kind]
    arithmetic = replace(
        program.arithmetic, acc_bits=int(width), overflow=overflow, saturate_at=at
    )  # fmt: skip
    return Variant(f"acc {int(width)} {kind}", rebuilt(program, arithmetic))


def for_rounding(program: Program, rounding: Rounding) -> Program:
    """The same values under the own rounding, written so that another may take its place."""
    own = program.arithmetic.rounding
    if rounding not in ROUNDINGS:
        raise ProgramError(f"Rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}.")
    if program.arithmetic.product == "single":
        raise ProgramError(
            f"Rounding {rounding} must have tables of its own, not those for products in float32;"
            " quantise the model again with another --arithmetic."
        )
    if own == "TRN" != rounding:
        raise ProgramError(
            f"Rounding {rounding} must have tables of its own, not those for TRN, which hold the"
            " half that it would add again."
        )
    if own not in BLIND or rounding in BLIND:
        return program
    constants = dict(program.constants)
    ops = tuple(without_zero_point(op, program, constants) for op in program.ops)
    return replace(program, ops=ops, constants=constants)


def without_zero_point(op: Op, program: Program, constants: dict[str, Constant]) -> Op:
    """A requantisation whose output's zero point is in `offset` and not in B; new tables join
    `constants`. Other operations as they are."""
    zeros = set(program.tensors[op.output].zero_point)
    if not isinstance(op, (Requant, Add)) or zeros == {0}:
        return op
    if isinstance(op, Requant) and op.rounding is not None:
        return op  # which stays
    if len(zeros) > 1:
        raise op.refuse("its output must have one zero point for all channels.")
    (zero,) = zeros
    if isinstance(op, Add):
        return replace(op, bias=op.bias - (zero << op.shift), offset=op.offset + zero)
    bias = constants[op.bias].array.reshape(-1)
    shift = np.array(op.shift, dtype=np.int64)
    moved = bias - (np.int64(zero) << shift)
    name = f"{op.output}.B without zero point"
    type = IntType.spanning(int(moved.min()), int(moved.max()))
    constants[name] = Constant(name, moved, type)
    return replace(op, bias=name, offset=op.offset + zero)


# --- what they do ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Divergence:
    """One variant against the Program's own arithmetic, on the traced images.

    differing   of `values` integers of the outputs, by at most `largest`
    overflows   accumulator values that did not hold their sum
    first       the earliest tensor, in the Program's order, in which any image differs, and there
                the first image and place; `got` is the variant's. None: no tensor differs.
    result      AP, where annotations were given
    """

    name: str
    arithmetic: Arithmetic
    values: int
    differing: int
    largest: int
    overflows: int
    first: Difference | None
    result: EvalResult | None

    def cells(self) -> tuple[str, ...]:
        """Text: name, AP, AP50, AP75, outputs that differ in %, largest, overflows."""
        r = self.result
        ap = ("-",) * 3 if r is None else tuple(f"{v:.4f}" for v in (r.ap, r.ap50, r.ap75))
        share = f"{100 * self.differing / max(self.values, 1):.3f}"
        return (self.name, *ap, share, str(self.largest), f"{self.overflows:,}")

    def sentence(self) -> str:
        """Where it first differs."""
        return f"{self.name}: {self.first.sentence() if self.first else 'no tensor differs'}"

    def to_json(self) -> dict[str, Any]:
        """JSON values: see `Report.to_json`."""
        result, arithmetic = self.result, self.arithmetic
        return {
            "name": self.name,
            "rounding": arithmetic.rounding,
            "acc_bits": arithmetic.acc_bits,
            "overflow": arithmetic.overflow,
            "saturate_at": arithmetic.saturate_at,
            "ap": result.ap if result else None,
            "ap50": result.ap50 if result else None,
            "ap75": result.ap75 if result else None,
            "outputs": self.values,
            "outputs_differing": self.differing,
            "largest": self.largest,
            "overflows": self.overflows,
            "first_difference": asdict(self.first) if self.first else None,
        }


@dataclass(frozen=True)
class Report:
    """The Program itself first, then each variant; `refused` says why presets are missing."""

    rows: tuple[Divergence, ...]
    images: int
    refused: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """JSON values.

        images     how many were traced
        evaluated  how many AP is of, or null
        variants   the Program's own arithmetic first; of each: name, rounding, acc_bits (null: as
                   proved), overflow ("wrap", "saturate"), saturate_at ("end", "mac"); ap, ap50,
                   ap75 in 0..1, or null; outputs (integers compared), outputs_differing, largest
                   (difference in codes), overflows; first_difference, null or {tensor, origin,
                   image, channel, y, x, got, expected}
        refused    {preset: sentence}
        """
        result = self.rows[0].result
        return {
            "images": self.images,
            "evaluated": result.images if result else None,
            "variants": [row.to_json() for row in self.rows],
            "refused": dict(self.refused),
        }


def every_variant(program: Program) -> tuple[list[Variant], dict[str, str]]:
    """All roundings and presets that the tables allow, but for the own, and why not the rest."""
    found: list[Variant] = []
    refused: dict[str, str] = {}
    own = program.arithmetic
    tried: list[tuple[str, Callable[[], Variant]]] = [
        (name, lambda name=name: rounding_as(program, name))  # type: ignore[misc]  # bound early
        for name in ROUNDINGS
        if name != own.rounding
    ]
    tried += [
        (name, lambda name=name: preset_as(program, name))  # type: ignore[misc]  # bound early
        for name, arithmetic in PRESETS.items()
        if arithmetic != own
    ]
    for name, make in tried:
        try:
            found.append(make())
        except ProgramError as error:
            refused[name] = str(error)
    return found, refused


def diverge(
    program: Program,
    variants: Sequence[Variant],
    images: Array,
    *,
    data: CocoData | None = None,
    limit: int | None = None,
    resize: bool = False,
    refused: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> Report:
    """Run a Program and its variants on images (N, C, H, W) of its input's type, tensor by tensor,
    and, with `data`, for AP on its first `limit` images (all without).

    Raises DataError for images that do not fit, ModelError where AP is asked of a Program without a
    head.
    """
    every = (Variant(f"{program.arithmetic.name} (own)", program), *variants)
    count = len(images) + (len(every) if data is not None else 0)
    done = 0
    steps = steps or Steps()
    steps.plan("tensors", *(["average precision"] if data is not None else ()))

    def step() -> None:
        nonlocal done
        done += 1
        (progress or steps.progress)(done, count)

    traced = [Trace(program, variant) for variant in every]
    own = Simulator(program, threads=1, trace=True)
    with steps.step("tensors"):
        for n in range(len(images)):  # one at a time: a trace holds every tensor
            expected = own(images[n : n + 1])
            for trace in traced:
                trace.add(n, images[n : n + 1], expected)
            step()
    results: list[EvalResult | None] = [None] * len(every)
    if data is not None:
        from intaglio.api import evaluate

        with steps.step("average precision"):
            for k, variant in enumerate(every):
                results[k] = evaluate(variant.program, data, limit=limit, resize=resize)
                step()
    rows = tuple(t.divergence(r) for t, r in zip(traced, results, strict=True))
    return Report(rows, len(images), refused or {})


class Trace:
    """A variant's differences as they add up over images."""

    def __init__(self, program: Program, variant: Variant) -> None:
        self.program = program
        self.variant = variant
        self.simulator = Simulator(variant.program, threads=1, trace=True)
        self.order = {op.output: n for n, op in enumerate(program.ops)}
        self.first: Difference | None = None
        self.values = self.differing = self.largest = self.overflows = 0

    def add(self, n: int, image: Array, expected: Mapping[str, Array]) -> None:
        """Image `n`, and what the Program itself makes of it."""
        got = self.simulator(image)
        self.overflows += sum(self.simulator.overflows.values())
        for output in self.program.outputs:
            a, b = (side[output.name].astype(np.int64) for side in (got, expected))
            self.values += a.size
            self.differing += int((a != b).sum())
            self.largest = max(self.largest, int(np.abs(a - b).max(initial=0)))
        found = first_difference(got, expected, self.program)
        earlier = self.first is None or (
            found is not None and self.order[found.tensor] < self.order[self.first.tensor]
        )
        if found is not None and earlier:
            self.first = replace(found, image=n)

    def divergence(self, result: EvalResult | None) -> Divergence:
        """All of it."""
        return Divergence(
            self.variant.name,
            self.variant.program.arithmetic,
            self.values,
            self.differing,
            self.largest,
            self.overflows,
            self.first,
            result,
        )


def asked_for(
    program: Program,
    arithmetics: Iterable[str],
    roundings: Iterable[str],
    accumulators: Iterable[str],
) -> list[Variant]:
    """Variants by their names. Raises ProgramError for one that cannot be made."""
    found = [preset_as(program, name) for name in arithmetics]
    for rounding in roundings:
        found.append(rounding_as(program, rounding))  # type: ignore[arg-type]  # checked there
    return found + [accumulating_as(program, text) for text in accumulators]
