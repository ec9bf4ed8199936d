"""Which operators are functions of one code, and their tables, asked of LiteRT's kernels.

A function may have a second operand that is a function of the same code (SiLU is x * LOGISTIC(x)),
or a constant: of one value, or of one for each place along an axis, as PRELU has slopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from intaglio.exchange.from_tflite.flat import CODES, Array, File, Flat, Operator
from intaglio.exchange.from_tflite.kernels import Kernels, alone, run

# Of one operand, and of two.
UNARY = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "HARD_SWISH",
         "LEAKY_RELU", "ELU", "GELU", "EXP", "LOG", "SQRT", "RSQRT", "ABS", "NEG", "SIN", "COS",
         "SQUARE", "QUANTIZE", "PRELU")  # fmt: skip
BINARY = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")
MOST = 1 << 22  # entries of the tables of one operator


class Table(NamedTuple):
    """The tensor that an operator is a function of, and its values at every code: (codes,), or of
    every place along an axis of it (places, codes). Axes are counted from the last, -1."""

    root: int
    values: Array
    axis: int = -1


class Request(NamedTuple):
    """The root of an operator's operands, their values at each of its codes, and the axis along
    which they, or constants, differ."""

    root: int
    operands: Sequence[Array]
    axis: int
    places: int


def tables_of(file: File, kernels: Kernels = "reference") -> dict[int, Table | str]:
    """By the operator's number in the file; LiteRT's own words where it cannot run the operator."""
    found: dict[int, Table | str] = dict(gathered(file))
    known: dict[int, Table] = {}  # by tensor
    for kinds in (UNARY, BINARY):
        asked: dict[int, Request] = {}
        for number, op in enumerate(file.operators):
            request = requested(file, op, known) if op.kind in kinds else None
            if request is not None:
                asked[number] = request
        if not asked:
            continue
        made = {
            str(n): (
                alone(file, file.operators[n], (codes(file, r.root).size, r.places)),
                [rows(values, r.places) for values in r.operands],
            )
            for n, r in asked.items()
        }
        _, answers = run(made, kernels=kernels)
        for n, request in asked.items():
            answer = answers[str(n)]
            if answer.words:
                found[n] = answer.words
                continue
            place = len(set(file.operators[n].inputs) - {-1})
            values = answer.tensors[place].reshape(-1, request.places).T
            alike = bool((values == values[0]).all())
            table = Table(request.root, values[0] if alike else values, request.axis)
            found[n] = known[file.operators[n].outputs[0]] = table
    return found


def gathered(file: File) -> dict[int, Table]:
    """Tables that are in the file itself: GATHER from a constant by the codes of a tensor, which
    CAST makes int32 and ADD moves; all three are functions of that tensor."""
    makers = {n: number for number, op in enumerate(file.operators) for n in op.outputs}
    found: dict[int, Table] = {}

    def maker(kind: str, n: int, count: int) -> int | None:
        """The operator of a kind, and of so many operands, that makes a tensor."""
        number = makers.get(n)
        op = None if number is None else file.operators[number]
        there = op is not None and op.kind == kind and len(op.inputs) == count
        return number if there and op is not None and min(op.inputs) >= 0 else None

    for number, op in enumerate(file.operators):
        if op.kind != "GATHER" or not op.outputs or maker("GATHER", op.outputs[0], 2) != number:
            continue
        if op.options.axis or op.options.batchDims:
            continue
        values, add = file.tensors[op.inputs[0]], maker("ADD", op.inputs[1], 2)
        if values.kind not in CODES or values.data is None or values.data.ndim != 1 or add is None:
            continue
        wide, start = (file.tensors[n] for n in file.operators[add].inputs)
        cast = maker("CAST", wide.index, 1)
        if cast is None or start.data is None or start.kind != "INT32":
            continue
        axis = varying([start.data])
        if axis not in (None, -1):
            continue
        root = file.operators[cast].inputs[0]
        if wide.kind != "INT32" or file.tensors[root].kind not in CODES:
            continue
        first = start.data.astype(np.int64).reshape(-1, 1)
        places = codes(file, root).astype(np.int64) + first
        if places.min() >= 0 and places.max() < values.data.size:
            table = Table(root, values.data[places if len(first) > 1 else places[0]])
            found |= dict.fromkeys((cast, add, number), table)
    return found


def rows(values: Array, places: int) -> Array:
    """As the one-operator file reads them: (1, 1, codes, places)."""
    each = np.broadcast_to(values, (places, values.shape[-1]))
    return np.ascontiguousarray(each.T)[None, None]


def varying(constants: Sequence[Array]) -> int | None:
    """The axis from the last along which constants have more than one value; None where they have
    one, 0 where there is no one axis."""
    axes = {k - data.ndim for data in constants for k, side in enumerate(data.shape) if side > 1}
    return None if not axes else axes.pop() if len(axes) == 1 else 0


def requested(file: File, op: Operator, known: Mapping[int, Table]) -> Request | None:
    """What LiteRT is to be asked; None of what is no function of one tensor."""
    given = [file.tensors[n] for n in dict.fromkeys(op.inputs) if n >= 0]
    active = [flat.index for flat in given if flat.data is None]
    constants = [flat.data for flat in given if flat.data is not None]
    if not active or len(op.outputs) != 1 or any(data.size < 1 for data in constants):
        return None
    if any(flat.kind not in CODES for flat in (*given, file.tensors[op.outputs[0]])):
        return None
    ways = [{n: Table(n, codes(file, n))} | own(known, n) for n in active]
    if len(active) == 1:
        twice = len(op.inputs) == 2 and not constants  # x * x
        root = active[0] if op.kind in UNARY or constants or twice else None
    else:
        root = min(set(ways[0]).intersection(*ways[1:]), default=None)
    if root is None:
        return None
    tables = [way[root] for way in ways]
    axes = {table.axis for table in tables if table.values.ndim > 1}
    axes |= {axis for axis in (varying(constants),) if axis is not None}
    axis = axes.pop() if axes else -1
    places = max(
        [data.size for data in constants] + [t.values.size // t.values.shape[-1] for t in tables]
    )
    if axes or not fits(file.tensors[root], axis, places):
        return None
    return Request(root, [table.values for table in tables], axis, places)


def own(known: Mapping[int, Table], number: int) -> dict[int, Table]:
    """The table of a tensor by its root, if it has one."""
    return {known[number].root: known[number]} if number in known else {}


def fits(root: Flat, axis: int, places: int) -> bool:
    """Whether one operand for each place along the axis, or one for all, is what the tensor takes
    without growing, in tables that are not too large."""
    if places == 1:
        return True
    inside = -len(root.shape) <= axis < 0 and root.shape[axis] == places
    return inside and root.type is not None and places << root.type.bits <= MOST


def parts_of(file: File, op: Operator, kernels: Kernels = "reference") -> dict[int, Array | str]:
    """By the operand's number, what a join makes of every code of those that have another grid than
    its result; or LiteRT's own words."""
    made = file.tensors[op.outputs[0]]
    unlike = [n for n in dict.fromkeys(op.inputs) if grid(file.tensors[n]) != grid(made)]
    asked = {
        str(n): (alone(file, replace(op, inputs=(n,)), (256, 1)), [rows(codes(file, n), 1)])
        for n in unlike
    }
    if not asked:
        return {}
    _, answers = run(asked, kernels=kernels)
    return {n: answers[str(n)].words or answers[str(n)].tensors[1].reshape(-1) for n in unlike}


def grid(flat: Flat) -> tuple[str, tuple[float, ...], tuple[int, ...]]:
    """What makes codes of two tensors the same."""
    return flat.kind, flat.scales, flat.zeros


def codes(file: File, number: int) -> Array:
    """Every code of a tensor's type."""
    flat = file.tensors[number]
    assert flat.type is not None
    return np.arange(flat.type.lo, flat.type.hi + 1).astype(CODES[flat.kind])
