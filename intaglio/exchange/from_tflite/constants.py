"""Operators on constants alone, and shapes that are known: computed once, before the import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.from_tflite.flat import DAMAGE, MOST, STORED, Array, File, Operator


def folded(file: File) -> File:
    """The file without those operators, and with what they make as constants."""
    tensors, operators = list(file.tensors), []
    for op in file.operators:
        made = None
        if op.kind in FOLDED and op.inputs and all(n >= 0 for n in op.inputs):
            given = [tensors[n] for n in op.inputs]
            if op.kind == "SHAPE":
                made = [np.array(given[0].shape, np.int64)]
            elif all(t.data is not None for t in given):
                try:
                    made = FOLDED[op.kind](op, [np.asarray(t.data) for t in given])
                except DAMAGE:
                    made = None  # the importer says what is wrong with it
        if made is None or not fits(made, [tensors[n].shape for n in op.outputs]):
            operators.append(op)
            continue
        for number, data in zip(op.outputs, made, strict=True):
            kind = STORED.get(getattr(schema.TensorType, tensors[number].kind), np.int64)
            whole: Array = data.reshape(tensors[number].shape).astype(kind)
            tensors[number] = replace(tensors[number], data=whole)
    return replace(file, tensors=tuple(tensors), operators=tuple(operators))


def fits(made: Sequence[Array], shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether the results are what the file says."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [data.size for data in made] == sizes and max(sizes, default=0) <= MOST


def picks(op: Operator, sides: Sequence[int], ends: Sequence[Sequence[int]]) -> list[range]:
    """The places of every axis that a STRIDED_SLICE with these begins, ends and strides takes, as
    Python slices; axes that are to vanish have one place."""
    o = op.options
    if o.ellipsisMask or o.newAxisMask:
        raise op.refuse("it must name every axis, and add none; convert the model anew.")
    found = []
    for k, (first, last, step) in enumerate(zip(*ends, strict=True)):
        begin = None if o.beginMask >> k & 1 else first
        end = first + last if getattr(o, "offset", False) else last
        stop = None if o.endMask >> k & 1 else end
        if o.shrinkAxisMask >> k & 1:
            begin, stop, step = first, first + 1 or None, 1
        found.append(range(*slice(begin, stop, step).indices(sides[k])))
    return found + [range(side) for side in sides[len(found) :]]


def strided(op: Operator, values: Sequence[Array]) -> list[Array]:
    """STRIDED_SLICE."""
    x, ends = values[0], [v.reshape(-1).tolist() for v in values[1:4]]
    return [x[np.ix_(*(list(pick) for pick in picks(op, x.shape, ends)))]]


def sliced(op: Operator, values: Sequence[Array]) -> list[Array]:
    """SLICE."""
    x, starts, sizes = values
    ends = zip(starts.reshape(-1).tolist(), sizes.reshape(-1).tolist(), strict=True)
    return [x[tuple(slice(a, None if n < 0 else a + n) for a, n in ends)]]


def unpacked(op: Operator, values: Sequence[Array]) -> list[Array]:
    """UNPACK."""
    return list(np.moveaxis(values[0], op.options.axis, 0))


def itself(op: Operator, values: Sequence[Array]) -> list[Array]:
    """The same values, in another shape or type."""
    return [values[0]]


FOLDED: dict[str, Callable[[Operator, Sequence[Array]], list[Array]]] = {
    "SHAPE": itself,
    "RESHAPE": itself,
    "SQUEEZE": itself,
    "EXPAND_DIMS": itself,
    "CAST": itself,
    "STRIDED_SLICE": strided,
    "SLICE": sliced,
    "UNPACK": unpacked,
    "PACK": lambda op, values: [np.stack(values, op.options.axis)],
    "CONCATENATION": lambda op, values: [np.concatenate(values, op.options.axis)],
    "TILE": lambda op, values: [np.tile(values[0], values[1].reshape(-1))],
    "TRANSPOSE": lambda op, values: [values[0].transpose(values[1].reshape(-1))],
}
