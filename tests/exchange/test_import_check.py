"""The comparison at the end of `import`: what it says, where it stops, and what it survives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tools import Cli, qonnx_operators, refused

from intaglio.exchange import checked
from intaglio.exchange.importer import imported
from intaglio.file import load
from intaglio.fixed import PRESETS

GROWS = """
import sys, time, os, signal
from pathlib import Path
import numpy as np
folder = Path(sys.argv[3])
"""


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], name=f"the_{output}", **attributes)


def written(path: Path, nodes: list[Any], opset: int, **constants: Any) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [
        helper.make_opsetid("", opset),
        helper.make_opsetid("qonnx.custom_op.general", 2),
    ]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )
    return path


def convolution(path: Path, kind: Any, opset: int = 19, bits: int = 8) -> Path:
    """x, a convolution, y; codes of `kind`."""
    step = np.float32(2.0 ** (1 - bits))
    weight = np.random.default_rng(0).integers(-100, 100, (4, 3, 3, 3)).astype(np.int8)
    return written(
        path,
        [
            node("QuantizeLinear", "x s z", "q"),
            node("DequantizeLinear", "q s z", "f"),
            node("DequantizeLinear", "w t v", "g"),
            node("Conv", "f g", "c", pads=[1, 1, 1, 1]),
            node("QuantizeLinear", "c u z", "k"),
            node("DequantizeLinear", "k u z", "y"),
        ],
        opset, s=step, z=kind(0), w=weight, t=np.float32(0.01), v=np.int8(0),
        u=np.float32(step * 1.7),
    )  # fmt: skip


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A process in the runtime's place, of these lines."""

    def put(lines: str) -> None:
        script = tmp_path / "stub.py"
        script.write_text(GROWS + lines)
        monkeypatch.setattr(checked, "WORKER", script)

    return put


def test_equal_integers_and_what_the_arithmetic_adds(cli: Cli, tmp_path: Path) -> None:
    convolution(tmp_path / "c.onnx", np.uint8)
    code, out, err = cli("import", "c.onnx", "-o", "c.intaglio", "--json", "c.json")
    assert code == 0, out + err
    lines = out.splitlines()
    version = onnxruntime.__version__
    assert lines[1] == (
        f"onnxruntime {version} with its default graph optimisation, 32 random images: 0 of 8,192"
        " output integers differ from --arithmetic onnxruntime"
    )
    assert lines[2].startswith("y.out: --arithmetic intaglio differs in ")
    assert lines[2].endswith(" of 8,192, by 1 at most")
    found = json.loads((tmp_path / "c.json").read_text())["check"]
    assert found["compared"] == 8192
    assert found["differing"] == 0
    assert found["wrong"] is False
    assert found["way"] == "with its default graph optimisation"
    assert found["chosen"][0]["output"] == "y.out"
    code, out, _ = cli("import", "c.onnx", "-o", "o.intaglio", "--arithmetic", "onnxruntime",
                       "--check", "3")  # fmt: skip
    assert code == 0
    assert "3 random images: 0 of 768 output" in out
    assert "--arithmetic intaglio" not in out


def test_layers_in_float32_are_named(cli: Cli, tmp_path: Path) -> None:
    convolution(tmp_path / "c.onnx", np.int16, opset=21, bits=16)
    code, out, err = cli(
        "import", "c.onnx", "-o", "c.intaglio", "--arithmetic", "onnxruntime", "--json", "c.json"
    )
    assert code == 0, out + err
    words = "float32 there, where codes next to a half may differ by one: the_c (codes of 16 bits)"
    assert words in out
    assert json.loads((tmp_path / "c.json").read_text())["float32"] == {"the_c": "codes of 16 bits"}


def test_a_difference_is_exit_code_1(cli: Cli, stub: Any, tmp_path: Path) -> None:
    """Of one code; the Program is there for who wants to look. Not with --no-check."""
    convolution(tmp_path / "c.onnx", np.uint8)
    stub("""
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
import onnxruntime
images = np.load(folder / "images.npy")
session = onnxruntime.InferenceSession(sys.argv[2])
y = np.concatenate([session.run(None, {"x": i[None]})[0] for i in images])
y.flat[5] += np.float32(2 ** -7 * 1.7) * (-1 if y.flat[5] > 1 else 1)
np.savez(folder / "results.npz", **{"default.0": y, "plain.0": y})
(folder / "version").write_text("9.9")
""")
    code, out, _ = cli("import", "c.onnx", "-o", "c.intaglio", "--json", "c.json")
    assert code == 1
    assert ": 1 of 8,192 output integers differ" in out
    assert (
        "none may differ; this is a fault, of the import or of onnxruntime: please report the"
        " file (--no-check imports it all the same)"
    ) in out
    assert load(tmp_path / "c.intaglio").outputs[0].shape == (4, 8, 8)
    assert json.loads((tmp_path / "c.json").read_text())["check"]["wrong"] is True
    code, out, _ = cli("import", "c.onnx", "-o", "c.intaglio", "--no-check")
    assert (code, out.count("\n")) == (0, 1)


def test_outputs_of_another_shape_are_exit_code_1(cli: Cli, stub: Any, tmp_path: Path) -> None:
    convolution(tmp_path / "c.onnx", np.uint8)
    stub("""
np.savez(folder / "results.npz", **{"default.0": np.zeros((32, 4, 7, 7), np.float32)})
(folder / "version").write_text("9.9")
""")
    code, out, _ = cli("import", "c.onnx", "-o", "c.intaglio")
    assert code == 1
    assert "its output has shape (32, 4, 7, 7), and 'y.out' (32, 4, 8, 8); this is a fault" in out


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("time.sleep(60)", "it did not answer within 1 seconds"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it stopped with signal 11 on the file"),
        ("sys.exit(3)", "it stopped with exit code 3 on the file"),
        ("(folder / 'answer').write_text('no such kernel')",
         "it could not run the file: no such kernel"),
    ],
)  # fmt: skip
def test_a_runtime_that_fails_is_a_sentence(
    lines: str, words: str, stub: Any, tmp_path: Path
) -> None:
    path = convolution(tmp_path / "c.onnx", np.uint8)
    stub(lines)
    found = checked.check(path, imported(path), seconds=1)
    assert found.sentences("intaglio") == [f"not compared with onnxruntime: {words}"]
    assert not found.wrong


def test_a_missing_runtime_is_a_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    convolution(tmp_path / "c.onnx", np.uint8)
    monkeypatch.setattr(checked, "find_spec", lambda name: None)
    code, out, _ = cli("import", "c.onnx", "-o", "c.intaglio")
    assert code == 0
    assert (
        "not compared with onnxruntime: it is not installed"
        f" ({sys.executable} -m pip install 'onnx>=1.16' 'onnxruntime>=1.20' 'flatbuffers>=24.3')"
    ) in out
    refused(
        cli("import", "c.onnx", "-o", "c.intaglio", "--check", "0"),
        "--check must be 1 to 10,000, not 0; use --no-check for none",
    )


def test_without_graph_optimisation_where_there_is_no_other_way(stub: Any, tmp_path: Path) -> None:
    path = convolution(tmp_path / "c.onnx", np.uint8)
    stub("""
np.savez(folder / "results.npz", **{"plain.0": np.zeros((2, 4, 8, 8), np.float32)})
(folder / "version").write_text("9.9")
""")
    found = checked.check(path, imported(path, PRESETS["onnxruntime"]), images=2)
    assert "without graph optimisation, as it cannot run the file with it" in found.sentences("")[0]
    assert found.floats["every layer"] == "run so"
    assert found.wrong  # zeros are not its integers


def test_qonnx_files_run_in_their_package(cli: Cli, tmp_path: Path) -> None:
    qonnx_operators()
    quant = {"domain": "qonnx.custom_op.general", "signed": 1, "narrow": 0}
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    written(
        tmp_path / "q.onnx",
        [
            node("Quant", "x s z b", "q", rounding_mode="ROUND", **quant),
            node("Quant", "w t z o", "g", rounding_mode="ROUND", **quant),
            node("Conv", "q g bias", "c", pads=[1, 1, 1, 1]),
            node("Quant", "c u z b", "y", rounding_mode="ROUND", **quant),
        ],
        20, s=np.float32(0.02), z=np.float32(0), b=np.float32(8), o=np.float32(1), w=weight,
        t=np.float32(0.1), u=np.float32(0.31), bias=np.float32([0.1, -0.2, 0.3, 0.4]),
    )  # fmt: skip
    code, out, err = cli("import", "q.onnx", "-o", "q.intaglio", "--arithmetic", "onnxruntime")
    assert code == 0, out + err
    assert "qonnx " in out
    assert ": 0 of 8,192 output integers differ" in out
    assert "the_c (everything is, in qonnx)" in out
