"""Which nodes onnxruntime runs on codes: what `OnCodes` says, beside the graph that it runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_files import KINDS, File, session

from intaglio.exchange.from_onnx.on_codes import OnCodes
from intaglio.exchange.from_onnx.onnx_file import read

MADE = {
    "QLinearConv": "Conv",
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearAveragePool": "AveragePool",
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearConcat": "Concat",
}
WORDS = ["conv", "conv", "pair", "mean", "max", "function", "join", "add"]
CHANNELS = 4


class Network(File):
    """Grows a graph of layers, of one type of codes or of two."""

    def __init__(self, draw: Any) -> None:
        super().__init__(draw, (1, CHANNELS, 3, 3))
        self.kinds = draw(st.sampled_from([["int8"], ["uint8"], ["int8", "uint8"]]))
        self.scale: dict[str, np.float32] = {}
        self.pool = [self.quantised("x")]

    def quantised(self, x: str, lowest: bool = False) -> str:
        """Codes of x, with the zero point at the lowest code or anywhere."""
        kind = self.draw(st.sampled_from(self.kinds))
        scale = np.float32(self.draw(st.floats(0.01, 0.05)))
        out = self.qdq(x, kind, int(np.iinfo(KINDS[kind]).min) if lowest else None, scale)
        self.scale[out] = scale
        return out

    def constant_codes(self, *shape: int) -> str:
        """A dequantised constant at scale 0.01."""
        kind = self.draw(st.sampled_from(["int8", "int8", "int8", "uint8"]))
        codes = np.random.default_rng(0).integers(0, 100, shape).astype(KINDS[kind])
        return self.dq(self.constant(codes), self.grid(kind, np.float32(0.01), 0))

    def conv(self, x: str, channels: int = CHANNELS) -> str:
        """With no bias, a float one, or one of int32 at the sum's scale or another."""
        inputs = [x, self.constant_codes(CHANNELS, channels, 1, 1)]
        bias = self.draw(st.sampled_from(["none", "float", "codes", "other"]))
        if bias == "float":
            inputs.append(self.constant(np.ones(CHANNELS, np.float32)))
        elif bias != "none":
            unit = self.scale[x] * np.float32(0.01) * np.float32(1 if bias == "codes" else 3)
            codes = self.constant(np.arange(CHANNELS, dtype=np.int32))
            inputs.append(self.add("DequantizeLinear", codes, self.constant(np.float32(unit))))
        out, lowest = self.add("Conv", *inputs), False
        clamp = self.draw(st.sampled_from(["", "Relu", "Clip"]))
        if clamp:
            ends = [self.constant(np.float32(v)) for v in (0, self.draw(st.sampled_from([1, 20])))]
            out = self.add(clamp, out, *(ends if clamp == "Clip" else []))
            lowest = self.draw(st.booleans())
        if self.draw(st.integers(0, 4)) == 0:
            out = self.add("MaxPool", out, kernel_shape=[1, 1])
        return self.quantised(out, lowest)

    def layer(self) -> None:
        """One more, which reads the last tensor or an older one."""
        x = self.draw(st.sampled_from([self.pool[-1], *self.pool]))
        match self.draw(st.sampled_from(WORDS)):
            case "conv":
                made = self.conv(x)
            case "pair":
                other = self.draw(st.sampled_from(self.pool))
                word = self.draw(st.sampled_from(["Add", "Mul"]))
                made = self.quantised(self.add(word, x, other))
            case "mean":
                made = self.quantised(self.add("AveragePool", x, kernel_shape=[1, 1]))
            case "max":
                made = self.add("MaxPool", x, kernel_shape=[1, 1])
                self.scale[made] = self.scale[x]
                made = self.quantised(made) if self.draw(st.booleans()) else made
            case "function":
                word = self.draw(st.sampled_from(["Sigmoid", "LeakyRelu", "Tanh"]))
                made = self.quantised(self.add(word, x))
            case "join":
                both = self.add("Concat", x, self.draw(st.sampled_from(self.pool)), axis=1)
                made = self.conv(self.quantised(both), 2 * CHANNELS)
            case _:
                made = self.quantised(self.add("Add", x, self.constant_codes(1, CHANNELS, 1, 1)))
        self.pool.append(made)


@settings(max_examples=60)
@given(data=st.data())
def test_nodes_on_codes_are_those_of_the_graph_that_runs(
    data: st.DataObject, tmp_path_factory: Any
) -> None:
    network = Network(data.draw)
    for _ in range(data.draw(st.integers(1, 6))):
        network.layer()
    folder: Path = tmp_path_factory.mktemp("f")
    model = network.model(network.pool[-1], opset=13)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    file = read(folder / "m.onnx")
    on_codes = OnCodes(file)
    session(model, folder)
    run = Counter(n.op_type for n in onnx.load(folder / "optimised.onnx").graph.node)
    theirs = Counter({ours: run[name] for name, ours in MADE.items() if run[name]})
    assert Counter(n.kind for n in file.nodes if on_codes(n)) == theirs
