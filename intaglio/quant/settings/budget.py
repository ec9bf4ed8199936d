"""What mixed precision may cost, and which widths it chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

from intaglio.errors import ModelError
from intaglio.ops import Conv2d
from intaglio.program import Program

BudgetKind = Literal["weight-bits", "bops"]


@dataclass(frozen=True)
class Budget:
    """An average that may not be exceeded.

    weight-bits  bits of a stored weight, over all weights; what call sites share counts once.
    bops         bit operations of a multiplication, weight bits times bits of the code it meets,
                 over all multiply-accumulates of an image: 16 where all is W4A4.

    Raises ModelError where a value is impossible.
    """

    kind: BudgetKind
    average: Fraction

    def __post_init__(self) -> None:
        if self.kind not in get_args(BudgetKind) or self.average <= 0:
            raise refused(f"{self.kind}={self.average}")

    @staticmethod
    def parse(text: str) -> Budget:
        """The budget written `weight-bits=4.5` or `bops=16`."""
        kind, _, average = text.partition("=")
        kinds: dict[str, BudgetKind] = {name: name for name in get_args(BudgetKind)}
        try:
            return Budget(kinds[kind], Fraction(average))
        except (KeyError, ValueError, ZeroDivisionError):
            raise refused(text) from None

    def __str__(self) -> str:
        return f"{self.kind}={float(self.average):g}"


def refused(text: str) -> ModelError:
    """A budget that makes no sense."""
    return ModelError(
        f"A budget must be weight-bits=AVERAGE or bops=AVERAGE with a number above 0, like"
        f" weight-bits=4, not {text!r}."
    )


@dataclass(frozen=True)
class Widths:
    """Exact widths, which count before any other setting: of weights by name, and of groups of
    tensors by the name of their first."""

    weights: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, int] = field(default_factory=dict)


def spent(program: Program, kind: BudgetKind) -> Fraction:
    """The average that a Program's constants and tensors have, as a budget of this kind counts."""
    constants, tensors = program.constants, program.tensors
    sites = program.of_kind(Conv2d)
    if kind == "weight-bits":
        stored = [constants[name] for name in {op.weight for op in sites}]
        bits = sum(c.array.size * c.code_bits for c in stored)
        return Fraction(bits, sum(c.array.size for c in stored))
    macs = program.macs()
    each = [
        (macs[op.output], constants[op.weight].code_bits * tensors[op.input].type.bits)
        for op in sites
    ]
    return Fraction(sum(n * bits for n, bits in each), sum(n for n, _ in each))
