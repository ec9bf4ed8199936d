"""Running an ONNX model in onnxruntime, and counting where it differs from the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from intaglio.program import Program
from intaglio.sim.engine import Simulator

Array = NDArray[Any]


def run_onnx(model: onnx.ModelProto, images: Array, threads: int = 1) -> dict[str, Array]:
    """Outputs by name of images (N, C, H, W), cast to the type that the model's input has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    results = session.run(None, {session.get_inputs()[0].name: images.astype(kind)})
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, results, strict=True))


@dataclass(frozen=True)
class Agreement:
    """Output integers compared, and how many of them another program gives differently."""

    compared: int
    mismatches: int

    def sentence(self) -> str:
        """One line for people."""
        return f"{self.mismatches:,} of {self.compared:,} output integers differ"


def random_codes(program: Program, count: int, seed: int = 0) -> Array:
    """Images (N, C, H, W) of the input's type: all codes alike, and every second one extreme."""
    (x,) = program.inputs
    rng = np.random.default_rng(seed)
    images = rng.integers(x.lo, x.hi, (count, *x.shape), endpoint=True)
    images[1::2] = rng.choice(np.array([x.lo, x.hi]), images[1::2].shape)
    return images


def compare(program: Program, theirs: dict[str, Array], images: Array) -> Agreement:
    """Another program's outputs for images (N, C, H, W) beside the simulator's."""
    ours = Simulator(program)(images)
    return Agreement(
        sum(a.size for a in ours.values()),
        sum(int(np.count_nonzero(theirs[name] != a)) for name, a in ours.items()),
    )
