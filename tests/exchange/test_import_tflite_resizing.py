"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR of TFLite files: LiteRT's codes in every mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import model_file, needs_modules

from intaglio.errors import ModelError
from intaglio.ops import Interpolate, Upsample

needs_modules("ai_edge_litert", "flatbuffers")

from test_import_tflite_choosing import equal  # noqa: E402  # after the check
from tflite_files import Net, Type  # noqa: E402  # the same

from intaglio.exchange.from_tflite.checked import check  # noqa: E402  # the same
from intaglio.exchange.from_tflite.importer import imported  # noqa: E402  # the same
from intaglio.forms import tflite_taps  # noqa: E402  # the same

MODES = [(False, False), (False, True), (True, False)]  # aligned corners, half pixel centres
EXACT = [
    *((*new, *mode) for new in ((8, 12), (16, 3)) for mode in MODES[:2]),
    *((*new, *MODES[2]) for new in ((5, 9), (9, 17), (3, 5))),
]
sides = st.tuples(st.integers(1, 7), st.integers(1, 16))


def resized(
    path: Path, kind: int, size: tuple[int, int], new: tuple[int, int], mode: tuple[bool, bool],
    bilinear: bool = True,
) -> object:  # fmt: skip
    """The Program, every tensor of which is LiteRT's."""
    net = Net(np.random.default_rng(sum((*size, *new))), kind)
    y = net.resize(net.input(1, *size, 3), new, bilinear, *mode)
    return equal(path, net, y)


@pytest.mark.parametrize("kind", [Type.INT8, Type.INT16], ids=["int8", "int16"])
@pytest.mark.parametrize("mode", MODES, ids=["plain", "half pixel", "aligned"])
@given(sides, sides)
@settings(max_examples=6, deadline=None)
def test_bilinear_of_signed_codes(
    tmp_path_factory: pytest.TempPathFactory, kind: int, mode: tuple[bool, bool],
    rows: tuple[int, int], columns: tuple[int, int],
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("resized") / "net.tflite"
    size, new = ((rows[0], columns[0]), (rows[1], columns[1]))
    resized(path, kind, size, new, mode)


@pytest.mark.parametrize("mode", MODES, ids=["plain", "half pixel", "aligned"])
@pytest.mark.parametrize("new", [(8, 12), (16, 3), (5, 9), (9, 17), (3, 5)])
def test_bilinear_of_uint8_is_exact_or_refused(
    tmp_path: Path, new: tuple[int, int], mode: tuple[bool, bool]
) -> None:
    said = ""
    try:
        resized(tmp_path / "net.tflite", Type.UINT8, (4, 6), new, mode)
    except ModelError as error:
        said = str(error)
    assert bool(said) == ((*new, *mode) not in EXACT)
    if said:
        assert said.endswith("LiteRT resizes uint8 in float32; convert the model to int8.")


@pytest.mark.parametrize("kind", [Type.INT8, Type.UINT8, Type.INT16], ids=["int8", "uint8", "i16"])
@pytest.mark.parametrize("mode", MODES, ids=["plain", "half pixel", "aligned"])
@pytest.mark.parametrize("new", [(8, 12), (7, 11), (3, 2), (1, 1), (4, 6), (2, 13)])
def test_nearest_at_every_ratio(
    tmp_path: Path, new: tuple[int, int], mode: tuple[bool, bool], kind: int
) -> None:
    program = resized(tmp_path / "net.tflite", kind, (4, 6), new, mode, bilinear=False)
    made = [*program.of_kind(Upsample), *program.of_kind(Interpolate)]
    assert len(made) == (new != (4, 6))  # type: ignore[attr-defined]  # a Program


@pytest.mark.parametrize("kind", [Type.INT8, Type.UINT8], ids=["int8", "uint8"])
@pytest.mark.parametrize(
    ("new", "mode"), [((8, 12), MODES[1]), ((13, 11), MODES[2]), ((12, 12), MODES[2])]
)
def test_xnnpacks_bilinear(
    tmp_path: Path, new: tuple[int, int], mode: tuple[bool, bool], kind: int
) -> None:
    net = Net(np.random.default_rng(3), kind)
    y = net.resize(net.input(1, 4, 6, 5), new, True, *mode)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(y))
    if new == (12, 12):
        with pytest.raises(ModelError, match="1 / 256 of a pixel; leave out --kernels xnnpack"):
            imported(path, kernels="xnnpack")
        return
    found = check(imported(path, kernels="xnnpack"), images=20)
    assert found.compared > 1000
    assert not found.wrong, found.places


def test_weights_are_in_1024ths() -> None:
    assert tflite_taps(2, 4, aligned=False, half=True) == (
        (0, 1024, 0), (0, 768, 256), (0, 256, 768), (1, 1024, 0),
    )  # fmt: skip
    assert tflite_taps(3, 7, aligned=True, half=False)[1] == (0, 683, 341)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["deeplabv3_mnv2_dm05_pascal_quant", "deeplabv3_mnv2_pascal_quant"]
)
def test_a_segmenter_at_every_tensor(name: str) -> None:
    """Of uint8, its last map enlarged from 33 to 513 pixels with aligned corners."""
    made = imported(model_file(f"{name}.tflite"))
    (resize,) = made.program.of_kind(Interpolate)
    assert resize.units == (16, 16)
    found = check(made, images=1)
    assert not found.wrong, found.places
    assert found.compared > 29_000_000
