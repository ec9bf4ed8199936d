"""`--arithmetic onnxruntime`: the runtime's codes for everything that is no sum of many, whether it
runs it on codes or in float32, at random scales and at round ones, which make ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_files import KINDS, File, agree, all_codes, scales

EXACT = {  # by what float32 does alone
    "LeakyRelu": {"alpha": 0.1},
    "HardSwish": {},
    "HardSigmoid": {"alpha": 0.2},
    "Abs": {},
    "Relu": {},
    "Sqrt": {},
    "PRelu": {},
}
NEAR = {"Sigmoid": {}, "Tanh": {}, "Elu": {}, "Softplus": {}, "Exp": {}}


def functions_of_every_code(data: st.DataObject, tmp_path_factory: Any) -> None:
    kind = data.draw(st.sampled_from(["int8", "uint8", "int16"]))
    word = data.draw(st.sampled_from(sorted(EXACT) if kind == "int16" else sorted(EXACT | NEAR)))
    file = File(data.draw, (1, 1, 16, 16 if kind != "int16" else 4096))
    scale = data.draw(scales()) if kind != "int16" else np.float32(data.draw(scales()) / 256)
    equal = data.draw(st.booleans())
    lowest = int(np.iinfo(KINDS[kind]).min)
    x = file.grid(kind, scale, lowest if word == "Sqrt" else None)
    y = (
        x
        if equal
        else file.grid(kind, np.float32(scale * data.draw(st.sampled_from([0.5, 0.7, 2]))))
    )
    q = file.q("x", x)
    if word in ("LeakyRelu", "Sigmoid") and kind != "int16" and data.draw(st.booleans()):
        attributes = (EXACT | NEAR)[word]
        out = file.add(f"QLinear{word}", q, *x, *y, domain="com.microsoft", **attributes)
    else:
        slope = [file.constant(np.float32([0.1]))] if word == "PRelu" else []
        out = file.q(file.add(word, file.dq(q, x), *slope, **(EXACT | NEAR)[word]), y)
    opset = 21 if kind == "int16" else 19
    agree(file.model(out, opset), tmp_path_factory.mktemp("f"), all_codes(kind))


def slopes_of_channels(data: st.DataObject, tmp_path_factory: Any) -> None:
    """A PRelu of four slopes, and steps behind it of one number, or one for each channel."""
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    file = File(data.draw, (1, 4, 16, 16))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = file.qdq("x", kind)
    for word in data.draw(
        st.lists(st.sampled_from(["PRelu", "Mul", "Add", "LeakyRelu", "qdq"]), max_size=3)
    ):
        sides = data.draw(st.sampled_from([(1, 1, 1), (4, 1, 1), (1, 4, 1, 1)]))
        c = file.constant(rng.uniform(-0.5, 1.5, sides).astype(np.float32))
        if word == "qdq":
            x = file.qdq(x, kind)
        elif word == "LeakyRelu":
            x = file.add(word, x, alpha=0.1)
        else:
            x = file.add("PRelu", x, file.constant(np.float32(rng.uniform(0, 1, (4, 1, 1)))))
            x = file.add(word, x, c)
    out = file.qdq(x, kind)
    agree(file.model(out), tmp_path_factory.mktemp("f"), np.repeat(all_codes(kind), 4, axis=1))


def what_only_scales_or_moves(data: st.DataObject, tmp_path_factory: Any) -> None:
    """DequantizeLinear and QuantizeLinear of other scales, with steps in float32 between them."""
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    file = File(data.draw, (1, 1, 16, 16))
    x = file.qdq("x", kind)
    for _ in range(data.draw(st.integers(0, 3))):
        step = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Relu", "Clip", "Sigmoid"]))
        number = np.float32(data.draw(st.sampled_from([3, 6, 0.1, 1 / 6, 0.7, 2, -1.5])))
        if step in ("Relu", "Sigmoid"):
            x = file.add(step, x)
        elif step == "Clip":
            x = file.add(step, x, file.constant(np.float32(-0.33)), file.constant(abs(number)))
        else:
            c = file.constant(number)
            if data.draw(st.booleans()):
                grid = file.grid(kind, data.draw(scales()), 0)
                c = file.dq(file.constant(KINDS[kind](data.draw(st.integers(3, 90)))), grid)
            pair = (c, x) if step in ("Add", "Mul", "Sub") and data.draw(st.booleans()) else (x, c)
            x = file.add(step, *pair)
        if data.draw(st.booleans()):
            x = file.qdq(x, data.draw(st.sampled_from(["int8", "uint8"])))
    out = file.qdq(x, kind)
    agree(file.model(out), tmp_path_factory.mktemp("f"), all_codes(kind))


def silu_as_it_is_written(data: st.DataObject, tmp_path_factory: Any) -> None:
    """x * f(x), with codes of f(x) between or without: on codes in uint8, in float32 in int8."""
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    file = File(data.draw, (1, 1, 16, 16))
    x = file.qdq("x", kind)
    y = file.add(data.draw(st.sampled_from(["Sigmoid", "HardSigmoid"])), x)
    if data.draw(st.booleans()):
        y = file.qdq(y, kind, -128 if kind == "int8" else 0, np.float32(1 / 256))
    m = file.add("Mul", *((x, y) if data.draw(st.booleans()) else (y, x)))
    out = file.qdq(file.add("Relu", m) if data.draw(st.booleans()) else m, kind)
    agree(file.model(out), tmp_path_factory.mktemp("f"), all_codes(kind))


def residual_sums_and_joins(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Of a tensor and of the largest of its neighbours, in any types."""
    kinds = [data.draw(st.sampled_from(["int8", "uint8"])) for _ in range(3)]
    if data.draw(st.booleans()):
        kinds = kinds[:1] * 3
    file = File(data.draw, (1, 2, 64, 64))
    x = file.qdq("x", kinds[0])
    largest = file.add("MaxPool", x, kernel_shape=[1, 2], pads=[0, 0, 0, 1])
    c = file.qdq(file.add("Mul", largest, file.constant(np.float32(1.1))), kinds[1])
    if data.draw(st.booleans()):
        c = file.add("Relu", c)
    word = data.draw(st.sampled_from(["Add", "Add", "Sub", "Concat"]))
    more = {"axis": 1} if word == "Concat" else {}
    pair = (x, c) if data.draw(st.booleans()) else (c, x)
    s = file.add(word, *pair, **more)
    out = file.qdq(file.add("Relu", s) if data.draw(st.booleans()) else s, kinds[2])
    info = np.iinfo(KINDS[kinds[0]])
    codes = np.random.default_rng(0).integers(info.min, info.max + 1, (1, 2, 64, 64))
    agree(file.model(out), tmp_path_factory.mktemp("f"), codes)


def joins_of_codes(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Of unlike scales: QLinearConcat, which rescales, and Concat of codes, which copies."""
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    file = File(data.draw, (1, 1, 16, 16))
    one, two, three, out = (file.grid(kind, data.draw(scales())) for _ in range(4))
    a = file.q("x", one)
    b = file.q(file.dq(a, one), two)
    if data.draw(st.booleans()):
        parts = (*three, a, *one, b, *two)
        made = file.add("QLinearConcat", *parts, domain="com.microsoft", axis=1)
    else:
        joined = file.add("Concat", a, b, axis=1)
        made = file.q(file.add("Relu", file.dq(joined, three)), out)
    agree(file.model(made), tmp_path_factory.mktemp("f"), all_codes(kind))


def many(law: Any, count: int) -> Any:
    """The law as a test of this many draws."""
    return settings(max_examples=count)(given(data=st.data())(law))


LAWS = [
    functions_of_every_code,
    slopes_of_channels,
    what_only_scales_or_moves,
    silu_as_it_is_written,
    residual_sums_and_joins,
    joins_of_codes,
]


@pytest.mark.parametrize("law", LAWS)
def test_the_runtimes_codes(law: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    many(law, 60)(tmp_path_factory=tmp_path_factory)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_the_runtimes_codes_in_many_draws(
    law: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    many(law, 2000)(tmp_path_factory=tmp_path_factory)
