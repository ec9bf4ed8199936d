"""The trained networks of MLPerf Tiny (mlcommons/tiny, int8 TFLite) from file to RTL: each fits a
device, and whole frames have the integers of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import model_file, needs, needs_modules

from intaglio.codegen.bundle import build
from intaglio.codegen.running.verify import verify

needs_modules("ai_edge_litert", "flatbuffers")

from intaglio.exchange.from_tflite.importer import imported  # noqa: E402  # after the check

pytestmark = [pytest.mark.slow, pytest.mark.rtl]


@pytest.mark.parametrize("name", ["pretrainedResnet_quant", "vww_96_int8", "kws_ref_model",
                                  "ad01_int8"])  # fmt: skip
def test_a_trained_file_becomes_rtl_of_the_same_integers(tmp_path: Path, name: str) -> None:
    needs("verilator")
    bundle = build(imported(model_file(f"{name}.tflite")).program, target="ecp5-85k")
    bundle.write(tmp_path / "build")
    done = verify(tmp_path / "build", frames=2)
    assert done.first_mismatch is None
    assert done.mismatches == 0
    assert done.cycles_per_frame == done.predicted_cycles_per_frame
    print(f"\n{name}: {bundle.summary()}\n{done.sentence()}")
