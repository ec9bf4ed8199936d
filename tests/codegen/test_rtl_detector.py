"""The bundled detector, whole, in RTL."""

from pathlib import Path

import pytest
from tools import needs


@pytest.mark.slow
@pytest.mark.rtl
def test_fcos_nano_is_equal_bit_for_bit_and_cycle_for_cycle(tmp_path: Path) -> None:
    needs("verilator")
    zoo = pytest.importorskip("intaglio.detect.zoo")
    from intaglio import build, quantize, verify
    from intaglio.detect.images import stack

    data = zoo.calibration("fcos-nano", tmp_path / "scenes", 16)
    images = stack([data.file(i) for i in data.ids[:16]], None)
    program = quantize(zoo.load("fcos-nano"), images, wbits=4, abits=4)
    bundle = build(program, target="ecp5-85k", images=images[:2])
    bundle.write(tmp_path / "build")
    result = verify(tmp_path / "build")
    assert result.passed, result.sentence()
    assert result.beats >= 12 * 189 * (10 + 4 + 1)
    assert result.cycles_per_frame == result.predicted_cycles_per_frame
    assert result.latency_cycles == result.predicted_latency_cycles
