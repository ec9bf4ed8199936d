"""Which operators are functions of one code, and their tables, asked of LiteRT's kernels.

A function may have a second operand that is a function of the same code (SiLU is x * LOGISTIC(x)),
or a constant of one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from intaglio.exchange.from_tflite.flat import CODES, Array, File, Operator
from intaglio.exchange.from_tflite.kernels import Kernels, alone, run

# Of one operand, and of two.
UNARY = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "HARD_SWISH",
         "LEAKY_RELU", "ELU", "GELU", "EXP", "LOG", "SQRT", "RSQRT", "ABS", "NEG", "SIN", "COS",
         "SQUARE", "QUANTIZE", "PRELU")  # fmt: skip
BINARY = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")

Table = tuple[int, Array]  # the tensor that it is a function of, and its value at every code


def tables_of(file: File, kernels: Kernels = "reference") -> dict[int, Table | str]:
    """By the operator's number in the file; LiteRT's own words where it cannot run the operator."""
    found: dict[int, Table | str] = dict(gathered(file))
    known: dict[int, Table] = {}  # by tensor
    for kinds in (UNARY, BINARY):
        asked: dict[int, tuple[int, Sequence[Array]]] = {}
        for number, op in enumerate(file.operators):
            request = requested(file, op, known) if op.kind in kinds else None
            if request is not None:
                asked[number] = request
        if not asked:
            continue
        made = {
            str(n): (alone(file, file.operators[n], len(arrays[0])), [row(a) for a in arrays])
            for n, (_, arrays) in asked.items()
        }
        _, answers = run(made, kernels=kernels)
        for n, (root, _) in asked.items():
            answer = answers[str(n)]
            if answer.words:
                found[n] = answer.words
                continue
            place = len(set(file.operators[n].inputs) - {-1})
            table = (root, answer.tensors[place].reshape(-1))
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
        if cast is None or start.data is None or start.data.size != 1 or start.kind != "INT32":
            continue
        root = file.operators[cast].inputs[0]
        if wide.kind != "INT32" or file.tensors[root].kind not in CODES:
            continue
        places = codes(file, root).astype(np.int64) + int(start.data.reshape(-1)[0])
        if places.min() >= 0 and places.max() < values.data.size:
            found |= dict.fromkeys((cast, add, number), (root, values.data[places]))
    return found


def row(values: Array) -> Array:
    """As the one-operator file reads it: (1, 1, codes, 1)."""
    return values.reshape(1, 1, -1, 1)


def requested(
    file: File, op: Operator, known: Mapping[int, Table]
) -> tuple[int, Sequence[Array]] | None:
    """The root of an operator's operands and their values at each of its codes, if it has one."""
    given = [file.tensors[n] for n in dict.fromkeys(op.inputs) if n >= 0]
    active = [flat.index for flat in given if flat.data is None]
    constants = [flat.data for flat in given if flat.data is not None]
    if not active or len(op.outputs) != 1 or any(data.size != 1 for data in constants):
        return None
    if any(flat.kind not in CODES for flat in (*given, file.tensors[op.outputs[0]])):
        return None
    ways = [{n: codes(file, n)} | dict([known[n]] if n in known else []) for n in active]
    if len(active) == 1:
        twice = len(op.inputs) == 2 and not constants  # x * x
        root = active[0] if op.kind in UNARY or constants or twice else None
    else:
        root = min(set(ways[0]).intersection(*ways[1:]), default=None)
    return None if root is None else (root, [way[root] for way in ways])


def codes(file: File, number: int) -> Array:
    """Every code of a tensor's type."""
    flat = file.tensors[number]
    assert flat.type is not None
    return np.arange(flat.type.lo, flat.type.hi + 1).astype(CODES[flat.kind])
