"""Every bundled network in RTL with random pauses on every port: the same integers."""

from pathlib import Path

import numpy as np
import pytest
from tools import needs

pytest.importorskip("torch")
from intaglio.detect import zoo

SEEDS = (1, 2, 3)


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("name", sorted(zoo.BUNDLED))
def test_pauses_change_no_integer(name: str, tmp_path: Path) -> None:
    needs("verilator")
    from intaglio import build, quantize
    from intaglio.detect.images import stack
    from intaglio.sim.engine import Simulator

    data = zoo.calibration(name, tmp_path / "scenes", 8)
    images = stack([data.file(i) for i in data.ids[:8]], None)
    program = quantize(zoo.load(name), images, wbits=4, abits=4, method="minmax")
    rtl = build(program, target="generic").compile(tmp_path / "kept")
    want = Simulator(program)(images[:3])
    for stalls in (None, *SEEDS):
        got = rtl(images[:3], stalls=stalls)
        assert got.keys() == want.keys()
        for tensor, array in want.items():
            np.testing.assert_array_equal(got[tensor], array, err_msg=f"{tensor}, seed {stalls}")
