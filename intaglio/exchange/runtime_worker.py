"""Runs one ONNX file in onnxruntime, or in the qonnx package; a script with a process of its own.

    python runtime_worker.py onnxruntime|qonnx FILE.onnx FOLDER

FOLDER has `images.npy`, (N, C, H, W) of the type that the file reads, and `ends`, the names of the
tensors that are wanted, a line each, where they are not the file's outputs. `results.npz` is put
there: `default.0`, `default.1`, ... are the outputs in the file's order, one image at a time and
then joined; `plain.0`, ... the same without graph optimisation (onnxruntime alone). What can be run
in neither way is said in `answer`, in the runtime's own words. Nothing of intaglio is
imported: whatever happens here happens to this process.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx


def one_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model for a batch of 1, where its batch is open, which some write as -1."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value in (0, -1):
            dims[0].dim_value = 1
    return model


def ending_at(path: Path, names: list[str], folder: Path) -> Path:
    """The file, or one that ends at these tensors."""
    if not names:
        return path
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    needed, kept = set(names), []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    onnx.save(model, folder / "ending.onnx")
    return folder / "ending.onnx"


def in_onnxruntime(path: Path, images: np.ndarray, optimised: bool) -> list[list[np.ndarray]]:
    """Outputs of every image."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Two pairs in a row would become one of a third scale, whose values are no codes of the file's.
    options.add_session_config_entry("session.disable_double_qdq_remover", "1")
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: image[None]}) for image in images]


def in_qonnx(path: Path, images: np.ndarray) -> list[list[np.ndarray]]:
    """Outputs of every image, node by node."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    model = ModelWrapper(one_image(onnx.load(path))).transform(InferShapes())
    constants = {tensor.name for tensor in model.graph.initializer}
    name = next(v.name for v in model.graph.input if v.name not in constants)
    names = [v.name for v in model.graph.output]
    found = [execute_onnx(model, {name: image[None]}) for image in images]
    return [[outputs[n] for n in names] for outputs in found]


def main() -> None:
    """Results, or the runtime's own words."""
    runtime, path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    images = np.load(folder / "images.npy")
    path = ending_at(path, (folder / "ends").read_text(encoding="utf-8").splitlines(), folder)
    made: dict[str, np.ndarray] = {}
    answer = ""
    ways = {"default": True, "plain": False} if runtime == "onnxruntime" else {"default": True}
    for way, optimised in ways.items():
        try:
            if runtime == "onnxruntime":
                runs = in_onnxruntime(path, images, optimised)
            else:
                runs = in_qonnx(path, images)
        except Exception as error:  # the runtime's own kinds, whatever they are
            answer = " ".join(str(error).split()) or type(error).__name__
            continue
        for n, arrays in enumerate(zip(*runs, strict=True)):
            made[f"{way}.{n}"] = np.concatenate(arrays)
    if not made:
        (folder / "answer").write_text(answer, encoding="utf-8")
        return
    np.savez(folder / "results.npz", allow_pickle=False, **made)
    (folder / "version").write_text(version(runtime), encoding="utf-8")


if __name__ == "__main__":
    main()
