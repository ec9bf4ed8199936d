"""Where two executions, or two Programs, differ first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from intaglio.errors import ProgramError
from intaglio.ops import Ints, Op, Tensor
from intaglio.program import Program
from intaglio.sim.engine import Array, Simulator


@dataclass(frozen=True)
class Difference:
    """One value: its tensor, the torch module it came from, its place, and the two codes."""

    tensor: str
    origin: str
    image: int
    channel: int
    y: int
    x: int
    got: int
    expected: int

    def sentence(self) -> str:
        """For people."""
        origin = f" (from {self.origin})" if self.origin else ""
        return (
            f"{self.tensor}{origin}: image {self.image}, channel {self.channel}, y {self.y},"
            f" x {self.x}: got {self.got}, expected {self.expected}"
        )


@dataclass(frozen=True)
class Comparison:
    """Of Program A with Program B. `structure` is the first difference in what they say, and
    `difference` in what they compute; None where there is none."""

    structure: str | None
    difference: Difference | None

    @property
    def equal(self) -> bool:
        """The Programs are the same, and compute the same."""
        return self.structure is None and self.difference is None

    def sentence(self) -> str:
        """What differs first, for people."""
        if self.equal:
            return "The Programs are equal."
        values = "no value differs on these images"
        if self.difference:
            values = f"the first value that differs is {self.difference.sentence()}"
        return f"{self.structure or 'The Programs say the same'}; {values}."

    def to_json(self) -> dict[str, Any]:
        """`equal`, `first_difference` (None or its fields), `structure`."""
        first = asdict(self.difference) if self.difference else None
        return {"equal": self.equal, "first_difference": first, "structure": self.structure}


def first_difference(
    got: Mapping[str, Array], expected: Mapping[str, Array], program: Program
) -> Difference | None:
    """The first value (N, C, H, W) that differs, of the tensors in both, in program order; within
    a tensor by image, channel, y, x. Raises ProgramError where shapes differ."""
    for op in program.ops:
        if op.output not in got or op.output not in expected:
            continue
        a, b = got[op.output], expected[op.output]
        if a.shape != b.shape:
            raise op.refuse(f"both arrays must have one shape, not {a.shape} and {b.shape}.")
        places = np.argwhere(a != b)
        if len(places):
            n, c, y, x = (int(i) for i in places[0])
            return Difference(
                op.output, op.origin, n, c, y, x, int(a[n, c, y, x]), int(b[n, c, y, x])
            )
    return None


def compare_programs(a: Program, b: Program, images: Array | None = None) -> Comparison:
    """What differs first between two Programs, in words and on `images` (default: two random
    ones). Values of A are `got`, those of B `expected`. Raises ProgramError when no image fits
    both."""
    (x,), (y,) = a.inputs, b.inputs
    if x.shape != y.shape or x.type != y.type:
        raise ProgramError(
            f"Both Programs must have one input shape and type, not {x.shape} {x.type} and"
            f" {y.shape} {y.type}."
        )
    structure = structural_difference(a, b)
    if images is None:
        rng = np.random.default_rng(0)
        images = rng.integers(x.type.lo, x.type.hi, size=(2, *x.shape), endpoint=True)
    shapes = {n: t.shape for n, t in a.tensors.items()}
    common = {n for n, t in b.tensors.items() if shapes.get(n) == t.shape}
    first, second = (Simulator(p, threads=1, trace=True) for p in (a, b))
    for n in range(len(images)):  # one at a time: a trace holds every tensor
        left, right = first(images[n : n + 1]), second(images[n : n + 1])
        found = first_difference({t: left[t] for t in common}, right, a)
        if found:
            return Comparison(structure, replace(found, image=n))
    return Comparison(structure, None)


def structural_difference(a: Program, b: Program) -> str | None:
    """One clause on the first operation, type, profile or constant that is not the same."""
    if a.arithmetic != b.arithmetic:
        return f"The arithmetic of A is {a.arithmetic.name}, of B {b.arithmetic.name}"
    for p, q in zip(a.ops, b.ops, strict=False):
        if type(p) is not type(q):
            return f"{p.output} is a {type(p).__name__} in A, {q.output} a {type(q).__name__} in B"
        found = differing_field(p, q, p.output)
        for name in p.constants:
            found = found or differing_entry(a.constants[name].array, b.constants[name].array, name)
        found = found or differing_field(a.tensors[p.output], b.tensors[q.output], p.output)
        if found:
            return found
    if len(a.ops) != len(b.ops):
        return f"A has {len(a.ops)} operations, B {len(b.ops)}"
    return None


def differing_field(a: Op | Tensor, b: Op | Tensor, name: str) -> str | None:
    """The first field that is not the same."""
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if left != right:
            return f"{field.name} of {name} is {left} in A, {right} in B"
    return None


def differing_entry(a: Ints, b: Ints, name: str) -> str | None:
    """The first entry of a constant that is not the same."""
    if a.shape != b.shape:
        return f"Constant {name} has the shape {a.shape} in A, {b.shape} in B"
    places = np.argwhere(a != b)
    if not len(places):
        return None
    at = tuple(int(i) for i in places[0])
    return f"Constant {name} differs at {at}: {a[at]} in A, {b[at]} in B"
