"""The tables of a trace: a layer computed from them alone is the reference's, and their files."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import skip
from strategies import (
    exact_arithmetics,
    images_for,
    narrow_arithmetics,
    programs,
    random_images,
    single_arithmetics,
)

from intaglio.cosim import Trace, table_text, write_trace
from intaglio.cosim.tables import FORMULAS, ROUNDINGS, SINGLE, before_product
from intaglio.errors import DataError
from intaglio.fixed import IntType, preset, requantise, single
from intaglio.hdl.pack import unpack_word
from intaglio.multiplier import Term, exact, scaling
from intaglio.ops import OPS, Input, Ints, Output
from intaglio.sim import reference

PAGE = Path(__file__).parent.parent.parent / "docs" / "arithmetic.md"


def hex_values(trace: Trace, tensor: str, name: str) -> Ints:
    """A table from its text, which $readmemh reads."""
    entry = trace.layer(tensor)["tables"][name]
    type = IntType.parse(entry["type"])
    words = (trace.folder / entry["hex"]).read_text(encoding="ascii").split()
    assert {len(word) for word in words} <= {-(-type.bits // 4)}
    flat = [unpack_word(int(word, 16), 1, type.bits, type.signed)[0] for word in words]
    return np.array(flat, dtype=np.int64).reshape(entry["shape"])


def computed(trace: Trace, layer: dict[str, Any], images: int) -> Ints:
    """The layer's output from its inputs, its entry and its tables, in loops as a block would."""
    xs = [trace.codes(part["tensor"]) for part in layer["inputs"]]
    out = np.empty((images, *layer["output"]["shape"]), dtype=np.int64)
    tables = {name: hex_values(trace, layer["tensor"], name) for name in layer["tables"]}
    for n, c, y, x in product(*map(range, out.shape)):
        out[n, c, y, x] = one(layer, tables, [part[n] for part in xs], c, y, x)
    return out


def one(
    layer: dict[str, Any], tables: dict[str, Ints], xs: list[Ints], c: int, y: int, x: int
) -> int:
    """One code."""
    match layer["op"]:
        case "Conv2d":
            return convolved(layer, tables["w"], xs[0], c, y, x)
        case "Requant":
            v, m, b = int(xs[0][c, y, x]), int(tables["M"][c]), int(tables["B"][c])
            t = int(single(single(v + b) * m)) if "product" in layer else v * m + b
            return rescaled(layer, t, int(tables["S"][c]))
        case "Add":
            a, b = (int(v[c, y, x]) for v in xs)
            t = a * layer["Ma"] + b * layer["Mb"] + layer["B"]
            if "product" in layer:
                t = int(single(single(b * layer["Mb"] + layer["B"]) + a * layer["Ma"]))
            return rescaled(layer, t, layer["S"])
        case "Multiply":
            a, b = xs
            kept = b.shape[0] > 1, b.shape[1] > 1, b.shape[2] > 1
            at = tuple(k * i for k, i in zip(kept, (c, y, x), strict=True))
            return (int(a[c, y, x]) - layer["zero_a"]) * (int(b[at]) - layer["zero_b"])
        case "Lookup":
            code, type = int(xs[0][c, y, x]), IntType.parse(layer["inputs"][0]["type"])
            table, rom = (t[c] if t.ndim > 1 else t for t in (tables["table"], tables["rom"]))
            assert rom[code & ((1 << type.bits) - 1)] == table[code - type.lo]
            return int(table[code - type.lo])
        case "MaxPool2d" | "SumPool2d":
            inside = window(layer, layer["kernel"], xs[0][c], y, x)
            if layer["op"] == "MaxPool2d":
                return max(v for v in inside if v is not None)
            return sum(layer["pad_value"] if v is None else v for v in inside)
        case "Upsample":
            h, w = xs[0].shape[1:]
            return int(xs[0][c, y * h // layer["size"][0], x * w // layer["size"][1]])
        case "Concat":
            return int(np.concatenate(xs)[c, y, x])
        case "Pad":
            top, _, left, _ = layer["padding"]
            value = inside_of(xs[0][c], y - top, x - left)
            return layer["value"] if value is None else value
        case "Select":
            source = layer["channels"][c]
            return layer["value"] if source < 0 else int(xs[0][source, y, x])
        case "Crop":
            (y0, _, dy), (x0, _, dx) = layer["rows"], layer["columns"]
            return int(xs[0][c, y0 + y * dy, x0 + x * dx])
        case "SpaceToDepth":
            (bh, bw), count = layer["block"], len(xs[0])
            part, c = divmod(c, count)
            return int(xs[0][c, y * bh + part // bw, x * bw + part % bw])
        case "DepthToSpace":
            bh, bw = layer["block"]
            count = len(xs[0]) // (bh * bw)
            return int(xs[0][(y % bh * bw + x % bw) * count + c, y // bh, x // bw])
        case "Interpolate":
            (_, h, w), total = xs[0].shape, 0
            (a, *u), (b, *v) = layer["rows"][y], layer["columns"][x]
            for ky, kx in product((0, 1), (0, 1)):
                code = int(xs[0][c, min(a + ky, h - 1), min(b + kx, w - 1)])
                total += u[ky] * v[kx] * code
            return total
    raise AssertionError(layer["op"])


def rescaled(layer: dict[str, Any], t: int, s: int) -> int:
    return requantise(t, s, layer["offset"], *layer["clamp"], layer["rounding"])


def inside_of(plane: Ints, y: int, x: int) -> int | None:
    h, w = plane.shape
    return int(plane[y, x]) if 0 <= y < h and 0 <= x < w else None


def window(
    layer: dict[str, Any], kernel: list[int], plane: Ints, y: int, x: int
) -> list[int | None]:
    """The codes of a window, None for those outside."""
    (sy, sx), (dy, dx), (top, _, left, _) = layer["stride"], layer["dilation"], layer["padding"]
    return [
        inside_of(plane, y * sy + ky * dy - top, x * sx + kx * dx - left)
        for ky in range(kernel[0])
        for kx in range(kernel[1])
    ]


def convolved(layer: dict[str, Any], w: Ints, planes: Ints, o: int, y: int, x: int) -> int:
    """A sum of products as the entry's accumulator keeps it."""
    outs, ins, *kernel = w.shape
    first = o // (outs // layer["groups"]) * ins
    acc, rule = 0, layer["accumulator"]
    type, pads = IntType.parse(rule["type"]), layer["pad_value"]
    taps = [window(layer, kernel, planes[first + c], y, x) for c in range(ins)]
    for tap in range(kernel[0] * kernel[1]):
        for c in range(ins):
            value = taps[c][tap]
            code = pads[(first + c) % len(pads)] if value is None else value
            acc += code * int(w[o, c, tap // kernel[1], tap % kernel[1]])
            if rule.get("saturate_at") == "mac":
                acc = max(type.lo, min(type.hi, acc))
    if rule["overflow"] == "wrap":
        return unpack_word(acc & ((1 << type.bits) - 1), 1, type.bits, True)[0]
    return max(type.lo, min(type.hi, acc)) if rule["overflow"] else acc


@settings(max_examples=12)
@given(st.data())
def test_every_layer_can_be_computed_from_its_entry_and_its_tables(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    profiles = st.one_of(exact_arithmetics(), single_arithmetics(), narrow_arithmetics())
    program = data.draw(programs(arithmetic=profiles, max_size=4, max_channels=4, max_blocks=3))
    images = data.draw(images_for(program))[:1]
    trace = write_trace(program, images, tmp_path_factory.mktemp("trace") / "t")
    expected = reference.run(program, images).tensors
    for op in program.ops:
        if isinstance(op, (Input, Output)):
            assert op.output not in trace.layers
            continue
        layer = dict(trace.layer(op.output))
        np.testing.assert_array_equal(computed(trace, layer, len(images)), expected[op.output])
        for name, entry in layer["tables"].items():
            np.testing.assert_array_equal(
                hex_values(trace, op.output, name), trace.table(op.output, name)
            )
            assert entry["word_bits"] == IntType.parse(entry["type"]).bits


def test_formulas_are_those_of_the_page() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for sentence in (*FORMULAS.values(), *SINGLE.values()):
        assert sentence in page
    rules = re.findall(r"^\| `(\w+)`[^|]*\| (.*?) \| (.*?) \|$", page_rows(), re.MULTILINE)
    told = {
        name: f"nearest, ties {ties}" if rule == "nearest" else rule for name, rule, ties in rules
    }
    assert told == ROUNDINGS
    assert set(FORMULAS) == set(OPS) - {Input, Output}


def page_rows() -> str:
    """The table of roundings."""
    text = PAGE.read_text(encoding="utf-8").split("## Rounding shifts")[1].split("\n## ")[0]
    return "\n".join(line for line in text.splitlines() if line.startswith("| `"))


@settings(max_examples=60)
@given(
    st.integers(-20_000, 20_000), st.floats(0.001, 0.4), st.integers(-128, 127),
    st.sampled_from(("tflite", "cmsis-nn", "tosa")),
)  # fmt: skip
def test_the_bias_of_other_systems_is_found_again(
    bias: int, ratio: float, zero: int, name: str
) -> None:
    """(x + bias) * M, the zero point taken off, is what quantising with these profiles writes."""
    arithmetic, factor = preset(name), exact(ratio)
    made = scaling([Term((factor,), (0,), (30_000,), factor * bias)], zero, arithmetic, "x")
    m, b, s, z = (
        np.array([v], dtype=np.int64) for v in (made.multipliers[0], made.bias[0], made.shift, zero)
    )
    found = before_product(m, b, s, z, arithmetic.rounding == "RND")
    assert found is not None
    assert abs(int(found[0]) - bias) <= 1


def test_a_channel_that_is_a_constant_leaves_no_bias() -> None:
    one = np.array([0, 3], dtype=np.int64)
    found = before_product(one, np.array([5, 9]), one * 0, one * 0, within=False)
    assert found is None


def test_text_is_as_wide_as_asked_for_and_refuses_less() -> None:
    assert table_text(np.array([-1, 5]), 12) == "fff\n005\n"
    assert table_text(np.array([255]), 8) == "ff\n"
    for values, bits in (([-1, 255], 8), ([256], 8), ([-9], 4), ([0], 0)):
        with pytest.raises(DataError, match=rf"^bits must be enough for values .*, not {bits}\.$"):
            table_text(np.array(values), bits)


def test_what_tables_refuse(tmp_path: Path) -> None:
    program = skip()
    trace = write_trace(program, random_images(program, 1, seed=2), tmp_path / "t")
    with pytest.raises(DataError, match=r"^The layer must be one of those in .*, not 'image'\.$"):
        trace.layer("image")
    with pytest.raises(DataError, match=r"^The table of 'sum' must be one of none, not 'M'\.$"):
        trace.table("sum", "M")
    path = tmp_path / "t" / trace.layer("branch")["tables"]["M"]["npy"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"must be a whole file of a trace, but: "):
        trace.table("branch", "M")
