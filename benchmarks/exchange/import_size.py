"""What reading a network of YOLOX-nano's size takes: CPU seconds and memory, float and quantised.

    python benchmarks/exchange/import_size.py

Two files are made, of 113 convolutions with x * sigmoid(x) behind 104 of them at 416 x 416,
depthwise and pointwise in turn: float ONNX (321 nodes), read as `quantize` reads a MODEL, and the
same between QuantizeLinear and DequantizeLinear (1,078 nodes), read as `import` does. Each is read
in a process of its own, whose CPU seconds and largest memory are printed, its start included.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, HEADS = 104, 9
READ = """
import resource, sys
from pathlib import Path
if sys.argv[1] == "float":
    from intaglio.models import opened
    from intaglio.quant.capture.export import capture
    from intaglio.quant.capture.passes import simplify
    found = len(simplify(capture(opened(sys.argv[2]), (3, 416, 416))).nodes)
else:
    from intaglio.exchange.importer import import_onnx
    found = len(import_onnx(Path(sys.argv[2])).ops)
took = resource.getrusage(resource.RUSAGE_SELF)
children = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = sum(u.ru_utime + u.ru_stime for u in (took, children))
print(f"{found} operations, {seconds:.1f} CPU s, {took.ru_maxrss / 1024:.0f} MB")
"""


class File:
    """A file as it grows; `quantised` has Q and DQ nodes between its operators."""

    def __init__(self, quantised: bool) -> None:
        self.quantised, self.rng = quantised, np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {
            "s": np.float32(0.02), "z": np.uint8(128), "w": np.float32(0.01), "o": np.int8(0)
        }  # fmt: skip

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"n{name}", **attributes))
        return name

    def codes(self, x: str) -> str:
        """Quantised and made real again."""
        if not self.quantised:
            return x
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, "s", "z"), "s", "z")

    def conv(self, x: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> str:
        """A convolution."""
        name = f"c{len(self.constants)}"
        shape = (cout, cin // groups, kernel, kernel)
        if self.quantised:
            self.constants[name] = self.rng.integers(-9, 10, shape).astype(np.int8)
            name = self.add("DequantizeLinear", name, "w", "o")
        else:
            gain = np.sqrt(1.5 / np.prod(shape[1:]))
            self.constants[name] = (gain * self.rng.standard_normal(shape)).astype(np.float32)
        pads = [kernel // 2] * 4
        made = self.add("Conv", x, name, strides=[stride] * 2, pads=pads, group=groups)
        return self.codes(made)

    def save(self, path: Path, outputs: list[str]) -> None:
        """Write it."""
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 416, 416))],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items()],
        )  # fmt: skip
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def write(path: Path, *, quantised: bool) -> int:
    """The file; its number of nodes."""
    file = File(quantised)
    x, channels = file.codes("x"), 3
    for n in range(LAYERS):
        stride = 2 if n in (0, 3, 12, 30, 60) else 1
        depthwise = n % 2 == 1
        wide = channels if depthwise else min(24 * 2 ** (n // 26), 128)
        kernel = 3 if depthwise or n == 0 else 1
        y = file.conv(x, channels, wide, kernel, stride, channels if depthwise else 1)
        x, channels = file.codes(file.add("Mul", y, file.codes(file.add("Sigmoid", y)))), wide
    file.save(path, [file.conv(x, channels, 16, 1, 1, 1) for _ in range(HEADS)])
    return len(file.nodes)


def main() -> None:
    """Both files, one after the other."""
    with TemporaryDirectory() as folder:
        for word in ("float", "quantised"):
            path = Path(folder) / f"{word}.onnx"
            nodes = write(path, quantised=word == "quantised")
            done = subprocess.run([sys.executable, "-c", READ, word, str(path)],
                                  capture_output=True, text=True, check=True)  # fmt: skip
            print(f"{word}, {nodes:,} nodes: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
