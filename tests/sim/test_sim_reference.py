"""The reference simulator against second definitions (tests/oracles.py) of every operation."""

from __future__ import annotations

from itertools import product

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import exact_arithmetics, images_for, int_types, narrow_arithmetics, programs

from intaglio.fixed import IntType, overflow_to
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Ints,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
    rounding_of,
)
from intaglio.program import Program
from intaglio.sim.reference import execute, narrowed, run


def requantised(t: Ints, s: int, op: Requant | Add, program: Program) -> list[int]:
    rule = rounding_of(op, program.arithmetic)
    found = (oracles.rounded(int(v), s, rule) + op.offset for v in t.flat)
    return [max(op.lo, min(op.hi, y)) for y in found]


def forced_sums(op: Conv2d, taps: Ints, program: Program, type: IntType) -> tuple[Ints, int]:
    """Accumulators in Python integers, one product after the other, and how many overflowed."""
    weight, a = program.constants[op.weight].array, program.arithmetic
    cout, cin, kh, kw = weight.shape
    n, _, h, w = taps.shape[:4]
    out, hits = np.empty((n, cout, h, w), dtype=np.int64), 0
    for i, o, y, x in product(range(n), range(cout), range(h), range(w)):
        first, total, hit = o * op.groups // cout * cin, 0, False
        for ky, kx, c in product(range(kh), range(kw), range(cin)):
            total += int(weight[o, c, ky, kx]) * int(taps[i, first + c, y, x, ky, kx])
            if a.overflow == "saturate" and a.saturate_at == "mac":
                hit |= not type.holds(total, total)
                total = overflow_to(total, type, "saturate")
        hit |= not type.holds(total, total)
        out[i, o, y, x] = overflow_to(total, type, a.overflow)
        hits += hit
    return out, hits


def second_opinion(op: Op, inputs: list[Ints], program: Program) -> Ints | list[int]:
    """The output of one operation, flat for those that requantise."""
    x = inputs[0]
    constants = program.constants
    match op:
        case Conv2d():
            weight = constants[op.weight].array
            pads = np.array(op.pad_value)
            args = (weight.shape[2:], op.stride, op.dilation, op.padding, pads)
            taps = oracles.windows(x, *args)
            type = narrowed(op, program)
            if type is not None:
                return forced_sums(op, taps, program, type)[0]
            return oracles.convolution(taps, weight, op.groups)
        case Requant():
            shape = (1, x.shape[1], 1, 1)
            m, b = (constants[n].array.reshape(-1) for n in (op.multiplier, op.bias))
            t = x * np.resize(m, shape[1]).reshape(shape) + np.resize(b, shape[1]).reshape(shape)
            shifts = np.resize(op.shift, shape[1])
            parts = [requantised(t[:, c], int(s), op, program) for c, s in enumerate(shifts)]
            return np.array(parts).reshape(x.swapaxes(0, 1).shape).swapaxes(0, 1)
        case Add():
            t = inputs[0] * op.multiplier_a + inputs[1] * op.multiplier_b + op.bias
            return np.array(requantised(t, op.shift, op, program)).reshape(x.shape)
        case Multiply():  # value by value, whatever is repeated
            others = np.broadcast_to(inputs[1], x.shape)
            made = [(int(v) - op.zero_a) * (int(w) - op.zero_b)
                    for v, w in zip(x.flat, others.flat, strict=True)]  # fmt: skip
            return np.array(made).reshape(x.shape)
        case MaxPool2d():
            never = np.array(-(2**62))
            args = (op.kernel, op.stride, op.dilation, op.padding, never)
            return oracles.windows(x, *args).max(axis=(4, 5))
        case SumPool2d():
            args = (op.kernel, op.stride, op.dilation, op.padding, np.array(op.pad_value))
            return oracles.windows(x, *args).sum(axis=(4, 5))
        case Upsample():  # source row k serves targets from ceil(k * size / n) on
            rows, columns = (
                np.searchsorted(-(-np.arange(1, n + 1) * size // n), np.arange(size), side="right")
                for n, size in zip(x.shape[2:], op.size, strict=True)
            )
            return x[:, :, rows[:, None], columns[None, :]]
        case Concat():
            return np.array([[c for part in inputs for c in part[n]] for n in range(len(x))])
        case Pad():
            top, bottom, left, right = op.padding
            sides = ((0, 0), (0, 0), (top, bottom), (left, right))
            return np.pad(x, sides, constant_values=op.value)
        case Select():  # a product by ones, and the value where a channel has none
            ones = np.array(
                [[int(c == source) for c in range(x.shape[1])] for source in op.channels]
            )
            own = op.value * (1 - ones.sum(axis=1))
            return np.einsum("oc,nchw->nohw", ones.astype(np.int64), x) + own[:, None, None]
        case Crop():
            return x[:, :, list(range(*op.rows))][:, :, :, list(range(*op.columns))]
        case SpaceToDepth():
            bh, bw = op.block
            corners = product(range(bh), range(bw))
            return np.concatenate([x[:, :, dy::bh, dx::bw] for dy, dx in corners], axis=1)
        case DepthToSpace():
            (n, c, h, w), (bh, bw) = x.shape, op.block
            made = np.empty((n, c // (bh * bw), h * bh, w * bw), dtype=np.int64)
            for k, (dy, dx) in enumerate(product(range(bh), range(bw))):
                made[:, :, dy::bh, dx::bw] = np.array_split(x, bh * bw, axis=1)[k]
            return made
        case Interpolate():  # a matrix for each side
            _, _, h, w = x.shape
            rows, columns = (oracles.blend(t, n) for t, n in ((op.rows, h), (op.columns, w)))
            return np.einsum("ih,nchw,jw->ncij", rows, x, columns)
        case Lookup():
            type = program.tensors[op.input].type
            codes, rows = range(type.lo, type.hi + 1), constants[op.table].array.tolist()
            rows = rows if constants[op.table].array.ndim > 1 else [rows] * x.shape[1]
            made = np.empty_like(x)
            for c, row in enumerate(rows):
                table = dict(zip(codes, row, strict=True))
                made[:, c] = np.vectorize(table.__getitem__, otypes=[np.int64])(x[:, c])
            return made
    assert isinstance(op, Output)
    return x


def check(program: Program, images: Ints) -> None:
    done = run(program, images)
    for op in program.ops:
        if isinstance(op, Input):
            continue
        inputs = [done.tensors[name] for name in op.inputs]
        expected = second_opinion(op, inputs, program)
        np.testing.assert_array_equal(done.tensors[op.output], expected, err_msg=str(op))


@given(st.data())
@settings(max_examples=60)
def test_every_operation_has_its_second_definition_s_value(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=exact_arithmetics()))
    check(program, data.draw(images_for(program)))


@given(st.data())
@settings(max_examples=40)
def test_wide_codes_and_raw_accumulators(data: st.DataObject) -> None:
    wide = programs(max_bits=20, weight_bits=16, input_types=int_types(16), raw_accumulators=True)
    program = data.draw(wide)
    check(program, data.draw(images_for(program)))


@given(st.data())
@settings(max_examples=40)
def test_narrow_accumulators_overflow_in_order_and_are_counted(data: st.DataObject) -> None:
    blocks = ("conv", "depthwise", "grouped", "shared")
    small = {"max_blocks": 2, "max_size": 5, "max_channels": 4}
    program = data.draw(programs(arithmetic=narrow_arithmetics(), blocks=blocks, **small))
    images = data.draw(images_for(program))
    check(program, images)
    done = run(program, images)
    for op in program.of_kind(Conv2d):
        type = narrowed(op, program)
        if type is None:
            assert op.output not in done.overflows
            continue
        weight = program.constants[op.weight].array
        x, pads = done.tensors[op.input], np.array(op.pad_value)
        taps = oracles.windows(x, weight.shape[2:], op.stride, op.dilation, op.padding, pads)
        assert done.overflows[op.output] == forced_sums(op, taps, program, type)[1]


@given(st.data())
@settings(max_examples=100)
def test_no_value_leaves_its_proved_range(data: st.DataObject) -> None:
    profiles = st.one_of(exact_arithmetics(), narrow_arithmetics())
    program = data.draw(programs(arithmetic=profiles, raw_accumulators=True))
    tensors = run(program, data.draw(images_for(program))).tensors
    for name, tensor in program.tensors.items():
        assert tensors[name].shape[1:] == tensor.shape
        assert tensor.lo <= tensors[name].min(), name
        assert tensors[name].max() <= tensor.hi, name


def test_an_unknown_operation_is_not_passed_over() -> None:
    with pytest.raises(TypeError, match="no rule for Op"):
        execute(Op(output="y"), [], Program((), {}, {}))
