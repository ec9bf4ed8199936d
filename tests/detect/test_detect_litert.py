"""An SSD against TFLite's own operator, TFLite_Detection_PostProcess, as LiteRT runs it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tools import needs_modules

from intaglio.detect.decode import Detections, anchor_boxes, decode
from intaglio.detect.networks.spec import HeadSpec

SIDE = 96  # of the picture: the operator's numbers are fractions of it
GRIDS = ((6, 6), (3, 3))
CLASSES = ("a", "b", "c")
SHAPES = (((20.0, 20.0), (30.0, 15.0)), ((40.0, 40.0), (60.0, 30.0), (30.0, 60.0)))
FAST = HeadSpec(
    "ssd", CLASSES, (16, 32), anchor_shapes=SHAPES, box_order="yxhw", activation="sigmoid",
    probabilities=("class",), one_class=True, across=True, nms_iou=0.4, score_threshold=0.3,
    max_detections=20,
)  # fmt: skip
CLASS_BY_CLASS = replace(FAST, one_class=False, across=False)


def anchors(spec: HeadSpec) -> NDArray[np.float32]:
    """Centre y, centre x, height, width of every anchor, as fractions."""
    corners = np.concatenate([anchor_boxes(spec, k, *grid) for k, grid in enumerate(GRIDS)])
    x0, y0, x1, y1 = corners.T / SIDE
    return np.stack([(y0 + y1) / 2, (x0 + x1) / 2, y1 - y0, x1 - x0], axis=1).astype(np.float32)


def model(spec: HeadSpec) -> bytes:
    """A file of that one operator: box codes and class probabilities in, boxes out."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    known = anchors(spec)
    shapes = [(1, len(known), 4), (1, len(known), len(spec.classes) + 1), known.shape]
    shapes += [
        (1, spec.max_detections, 4),
        (1, spec.max_detections),
        (1, spec.max_detections),
        (1,),
    ]
    graph, buffers = schema.SubGraphT(), [schema.BufferT(), schema.BufferT()]
    buffers[0].data, buffers[1].data = b"", known.tobytes()
    graph.tensors = []
    for n, shape in enumerate(shapes):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{n}".encode(), list(shape), 0
        tensor.buffer = 1 if n == 2 else 0
        graph.tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"TFLite_Detection_PostProcess", 1
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = 0, [0, 1, 2], [3, 4, 5, 6]
    x, y, w, h = spec.scales
    options = {
        "max_detections": spec.max_detections, "max_classes_per_detection": 1,
        "detections_per_class": 100, "use_regular_nms": not spec.across,
        "nms_score_threshold": spec.score_threshold, "nms_iou_threshold": spec.nms_iou,
        "num_classes": len(spec.classes), "x_scale": x, "y_scale": y, "w_scale": w, "h_scale": h,
    }  # fmt: skip
    op.customOptions = flexbuffers.Dumps(options)
    graph.operators, graph.inputs, graph.outputs = [op], [0, 1], [3, 4, 5, 6]
    whole = schema.ModelT()
    whole.version, whole.operatorCodes = 3, [code]
    whole.subgraphs, whole.buffers = [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def flat(maps: list[NDArray[Any]], spec: HeadSpec) -> NDArray[np.float32]:
    """Maps (A * K, h, w) of the levels as TensorFlow joins them, (1, anchors, K)."""
    rows = []
    for level, values in enumerate(maps):
        split = values.reshape(spec.anchors_at(level), -1, *values.shape[1:])
        rows.append(split.transpose(2, 3, 0, 1).reshape(-1, split.shape[1]))
    return np.concatenate(rows)[None].astype(np.float32)


def by_litert(runtime: Any, spec: HeadSpec, outputs: list[NDArray[np.float32]]) -> Detections:
    """What the operator finds, in pixels."""
    details = {one["index"]: one for one in runtime.get_input_details()}
    for index, values in zip(sorted(details), (outputs[2:], outputs[:2]), strict=True):
        runtime.set_tensor(index, flat(list(values), spec))
    runtime.invoke()
    boxes, labels, scores, count = (
        runtime.get_tensor(one["index"]) for one in runtime.get_output_details()
    )
    n = int(count[0])
    y0, x0, y1, x1 = boxes[0, :n].astype(np.float64).T * SIDE
    corners = np.stack([x0, y0, x1, y1], axis=1).clip(0, SIDE)  # the operator does not clip
    return Detections(corners, scores[0, :n], labels[0, :n].astype(np.int64))


def drawn(spec: HeadSpec, seed: int) -> list[NDArray[np.float32]]:
    """Class probabilities and box codes of each level; no two scores alike."""
    rng = np.random.default_rng(seed)
    found = []
    for n, channels in enumerate(spec.channels):
        values = rng.normal(0, 2, (channels, *GRIDS[n % 2]))
        found.append((1 / (1 + np.exp(-values)) if n < 2 else values).astype(np.float32))
    return found


@pytest.mark.parametrize("spec", [FAST, CLASS_BY_CLASS], ids=["fast", "regular"])
def test_an_ssd_is_what_tflites_own_operator_finds(spec: HeadSpec) -> None:
    needs_modules("ai_edge_litert", "flatbuffers")
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(model_content=model(spec))
    runtime.allocate_tensors()
    seen = []

    @settings(max_examples=25)
    @given(st.integers(0, 2**32))
    def same(seed: int) -> None:
        outputs = drawn(spec, seed)
        ours, theirs = decode(spec, outputs, (SIDE, SIDE)), by_litert(runtime, spec, outputs)
        assert ours.labels.tolist() == theirs.labels.tolist()
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6, rtol=0)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3, rtol=0)
        seen.append(len(theirs.boxes))

    same()
    assert max(seen) == spec.max_detections
