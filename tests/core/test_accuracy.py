"""What the README claims of the bundled detector: integers lose nothing at 8 bits, and the
fake-quantised model tells the integers' mAP."""

from pathlib import Path

import pytest

from intaglio.api import compare_with_simulator, evaluate
from intaglio.detect import zoo
from intaglio.detect.images import stack
from intaglio.quant import QuantConfig, quantize

SCENES = 200


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> zoo.CocoData:
    return zoo.held_out("fcos-nano", tmp_path_factory.mktemp("held-out"), SCENES)


@pytest.mark.xdist_group("accuracy")
@pytest.mark.parametrize(("bits", "loss"), [(8, 0.01), (4, 0.12)])
def test_integers_keep_the_map(
    bits: int, loss: float, held_out: zoo.CocoData, tmp_path: Path
) -> None:
    model = zoo.load("fcos-nano")
    chosen = zoo.calibration("fcos-nano", tmp_path, 64)
    pixels = stack([chosen.file(i) for i in chosen.ids], None)
    done = quantize(model, pixels, QuantConfig(wbits=bits, abits=bits))
    real = evaluate(model, held_out).ap
    integers = evaluate(done.program, held_out).ap
    fake = evaluate(model, held_out, predict=done.fake).ap
    assert abs(integers - real) < loss
    assert abs(integers - fake) < 0.002
    found = compare_with_simulator(done, pixels[:4])
    assert max(row.largest_own for row in found.rows) <= 1
