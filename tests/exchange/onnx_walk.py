"""The schemas of ONNX and of onnxruntime's own domain, walked: every attribute and input of every
version of every operator, each with values that it does not have by default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx_cases import DRAWN, ROWS, Act, Case, Raw, Weight, draw

from intaglio.exchange.from_onnx.operators import MICROSOFT, NEWEST, OLDEST, QONNX, STANDARD

WORDS = (
    "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "nearest", "linear", "cubic", "constant",
    "reflect", "edge", "wrap", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
    "align_corners", "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize", "floor", "ceil",
    "round_prefer_floor", "round_prefer_ceil", "stretch", "not_larger", "not_smaller",
)  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    "INT": (-3, -2, -1, 0, 1, 2, 3, 4, 10),
    "FLOAT": (0.0, 0.5, -1.0, 3.0, 1e-3),
    "STRING": WORDS,
    "INTS": (
        [2, 2], [1, 2], [3, 2], [2, 3], [-1, -2], [1, 3], [0], [1], [2], [3], [-1], [4],
        [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 2], [1, 1, -1, 0], [0, 0, 1, 2, 0, 0, 2, 1],
        [0, 0, 0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 3, 2],
    ),
    "FLOATS": ([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.5, 1.25], [1.0, 2.0, 1.0, 1.0]),
}  # fmt: skip
OPTIONAL: tuple[Any, ...] = (
    np.float32(0.5), np.float32(-1), np.bool_(True), np.uint8(3), np.int8(-2), np.int32(5),
    np.array([2, 3], np.int64), np.array([3, 2], np.int64), np.array([0, 1, 3, 2], np.int64),
    np.array([-1, -2, 0, 1], np.int64), np.array([1, 3, 9, 9], np.int64),
    np.array([0, 0, 0.25, 0.25, 1, 1, 0.75, 0.75], np.float32), np.array([1, 1, 2, 3], np.float32),
    np.array([1, -2, 3], np.float32), np.array([3, 5, 1, 7, 9, 2], np.int32),
)  # fmt: skip


@dataclass(frozen=True)
class Schema:
    """What one version of an operator has. `attributes`: names and types."""

    domain: str
    kind: str
    version: int
    attributes: dict[str, str]
    inputs: tuple[str, ...]
    deprecated: bool = False


def schemas() -> list[Schema]:
    """Of the onnx package, and of the installed runtime's domain com.microsoft."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == STANDARD]
    found += [s for s in state.get_all_operator_schema() if s.domain == MICROSOFT]
    return [
        Schema(
            s.domain,
            s.name,
            s.since_version,
            {name: str(a.type).rpartition(".")[2] for name, a in s.attributes.items()},
            tuple(i.name for i in s.inputs),
            bool(s.deprecated),
        )
        for s in found
    ]


def current(schema: Schema, every: list[Schema]) -> bool:
    """Whether an operator set that the importer takes has this version."""
    if schema.domain != STANDARD:
        return True
    later = [
        s.version
        for s in every
        if (s.domain, s.kind) == (schema.domain, schema.kind) and s.version > schema.version
    ]
    return schema.version <= NEWEST and min(later, default=NEWEST + 1) > OLDEST


def changes(schema: Schema, case: Case) -> Iterator[tuple[str, Case]]:
    """(attribute or input, the case with another value of it)."""
    for name, kind in schema.attributes.items():
        for value in VALUES.get(kind, ()):
            if case.attributes.get(name) != value:
                yield name, replace(case, attributes=case.attributes | {name: value})
        if name in case.attributes:
            rest = {k: v for k, v in case.attributes.items() if k != name}
            yield name, replace(case, attributes=rest)
    for n, name in enumerate(schema.inputs):
        here = case.inputs[n] if n < len(case.inputs) else None
        before = case.inputs[:n] + (None,) * max(n - len(case.inputs), 0)
        for value in others(here):
            yield name, replace(case, inputs=(*before, value, *case.inputs[n + 1 :]))


def others(value: Any) -> Iterator[Any]:
    """Other operands in the place of one."""
    if value is None:
        yield from OPTIONAL
        return
    yield None
    if isinstance(value, Act):
        yield from (Act(value.number + 1), Raw(value.number))
    elif isinstance(value, Raw):
        yield from (Act(value.number), Raw(value.number + 1))
    elif isinstance(value, Weight):
        length = value.codes.shape
        for axis in range(len(length)):
            scale = 2.0 ** -np.arange(3, 3 + length[axis])
            yield replace(value, scale=scale, axis=axis)
        yield replace(value, scale=np.float32(0.25), zero=np.int8(3))
        yield replace(value, codes=value.codes[::-1].copy())
        yield replace(
            value, codes=(value.codes.astype(int) + 128).astype(np.uint8), zero=np.uint8(1)
        )
    else:
        array = np.asarray(value)
        if array.dtype == bool:
            yield ~array
            return
        yield from (array + array.dtype.type(1), array * array.dtype.type(2), array[..., None])
        yield from (np.zeros_like(array), array.reshape(-1)[:1], np.resize(array, 3))
        if array.dtype == np.uint8:
            yield (array.astype(int) - 128).astype(np.int8)
        if array.dtype.kind in "if":
            yield -array
        if array.ndim:
            yield from (array[::-1].copy(), np.array([], array.dtype))
        if array.size:
            yield array.reshape(-1)[0]
        if array.dtype.kind == "f":
            yield from (array * np.float32(1.3), np.full_like(array, np.inf))


def bases(schema: Schema, count: int) -> list[Case]:
    """Cases of the operator in this version."""
    version = 1 if schema.domain == MICROSOFT else schema.version
    return [draw(schema.kind, version, np.random.default_rng(seed)) for seed in range(count)]


def tabled() -> set[tuple[str, str, int]]:
    """(domain, operator, version) that the importer's table has and cases can be drawn of."""
    return {(r.domain, r.kind, v) for r, v in ROWS if r.domain != QONNX and r.kind in DRAWN}
