"""fcos-nano, quantised by onnxruntime's own tool: imported, judged, and built."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tools import Cli, needs

from intaglio.exchange.importer import import_onnx
from intaglio.exchange.runtime import run_onnx
from intaglio.fixed import preset
from intaglio.sim.engine import Simulator

pytest.importorskip("onnxscript")
zoo = pytest.importorskip("intaglio.detect.zoo")

SCENES = 20


@dataclass(frozen=True)
class Made:
    """The file, the detector, scenes that it never saw: uint8 pixels, and what the file reads."""

    path: Path
    model: Any
    data: Any
    pixels: Any
    real: Any


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """By the functions of examples/other_tools.py."""
    from intaglio.detect.images import stack

    file = Path(__file__).parent.parent.parent / "examples/other_tools.py"
    spec = importlib.util.spec_from_file_location("other_tools", file)
    assert spec is not None
    assert spec.loader is not None
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    folder = tmp_path_factory.mktemp("qdq")
    model = zoo.load("fcos-nano")
    mean, std = model.image_mean, model.image_std
    seen = zoo.calibration("fcos-nano", folder / "calibration", 32)
    images = stack([seen.file(i) for i in seen.ids], None)
    path = folder / "fcos-nano.onnx"
    tools.quantised_by_onnxruntime(model, tools.normalised(images, mean, std), path)
    data = zoo.held_out("fcos-nano", folder / "held-out", SCENES)
    pixels = stack([data.file(i) for i in data.ids], None)
    return Made(path, model, data, pixels, tools.normalised(pixels, mean, std))


def test_the_commands_import_and_judge_it(made: Made, cli: Cli, tmp_path: Path) -> None:
    """AP of the Program beside that of the torch model; `--like` brings mean, std and head."""
    from intaglio import evaluate

    folder = made.path.parent / "held-out"
    scenes = ["--data", str(folder / "scenes.json"), "--images", str(folder / "images")]
    code, out, err = cli("import", str(made.path), "--like", "fcos-nano", "-o", "f.intaglio")
    assert code == 0, out + err
    code, out, err = cli("eval", "f.intaglio", *scenes, "--json", "ap.json")
    assert code == 0, out + err
    found = json.loads((tmp_path / "ap.json").read_text())
    whole = evaluate(made.model, made.data).ap
    assert whole > 0.6
    assert abs(found["ap"] - whole) < 0.03


def test_before_its_norms_it_is_the_runtime_to_the_bit(made: Made) -> None:
    """In onnxruntime's arithmetic. The heads' norms, one for each level, stay float operators in
    the file; only what reads them may differ, by a code where a product in float32 is next to a
    half."""
    model = onnx.load(made.path)
    floats: set[str] = set()
    before, behind = [], []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" or floats & set(node.input):
            floats |= set(node.output)
        if node.op_type == "QuantizeLinear":
            (behind if floats & set(node.output) else before).append(node.output[0])
    assert len(before) > 30
    assert len(behind) > 15
    outputs = [helper.make_empty_tensor_value_info(n) for n in before + behind]
    model.graph.output.extend(outputs)
    mean, std = made.model.image_mean, made.model.image_std
    program = import_onnx(made.path, preset("onnxruntime"), mean=mean, std=std)
    ours = Simulator(program, trace=True)(made.pixels[:8])
    parts = [run_onnx(model, made.real[n : n + 1]) for n in range(8)]
    theirs = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    count = differing = 0
    for name in before + behind:
        tensor = re.sub(r"[^A-Za-z0-9_.]", "_", name)
        if tensor not in ours:  # a map that only moved
            continue
        if name in before:
            np.testing.assert_array_equal(ours[tensor], theirs[name], err_msg=name)
        else:
            gaps = np.abs(ours[tensor].astype(int) - theirs[name])
            assert gaps.max() <= 1
            count, differing = count + gaps.size, differing + int(gaps.sum())
    assert differing <= count // 1000


@pytest.mark.slow
@pytest.mark.rtl
def test_in_rtl(made: Made, tmp_path: Path) -> None:
    needs("verilator")
    from intaglio import build, verify

    mean, std = made.model.image_mean, made.model.image_std
    program = import_onnx(made.path, mean=mean, std=std)
    bundle = build(program, target="generic", lanes=200, images=made.pixels[:2])
    bundle.write(tmp_path / "build")
    found = verify(tmp_path / "build")
    assert found.first_mismatch is None
    assert found.beats > 0
    assert found.cycles_per_frame == found.predicted_cycles_per_frame
