"""Runs .tflite files in LiteRT's kernels; a script with a process of its own.

    python litert_worker.py FOLDER reference|xnnpack

FOLDER has `FILE.tflite` and `FILE.npz` for each run: arrays `in0`, `in1`, ... for the file's
inputs, (N, ...) where the file reads (1, ...). `FILE.results.npz` is put there: every tensor of
the file that LiteRT keeps, or from XNNPACK its outputs, by number, (N, ...), and `version` with
LiteRT's own. What cannot be run is said in `FILE.answer`, in its own words. Nothing of intaglio is
imported: whatever happens here happens to this process.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def tensors_of(path: Path, inputs: list[np.ndarray], kernels: str) -> dict[str, np.ndarray]:
    """Every tensor, one image at a time and then joined."""
    reference = kernels == "reference"
    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        if reference
        else OpResolverType.BUILTIN,
        experimental_preserve_all_tensors=reference,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    places = [detail["index"] for detail in interpreter.get_input_details()]
    details = interpreter.get_tensor_details() if reference else interpreter.get_output_details()
    numbers = [detail["index"] for detail in details]
    found: dict[int, list[np.ndarray]] = {}
    for n in range(len(inputs[0])):
        for place, array in zip(places, inputs, strict=True):
            interpreter.set_tensor(place, array[n : n + 1])
        interpreter.invoke()
        for number in numbers:
            try:
                found.setdefault(number, []).append(interpreter.get_tensor(number))
            except ValueError:  # a tensor that nothing made
                continue
    return {
        str(number): np.stack(arrays)
        for number, arrays in found.items()
        if len(arrays) == len(inputs[0])
    }


def main() -> None:
    """Results, or LiteRT's own words."""
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("*.tflite")):
        with np.load(path.with_suffix(".npz")) as stored:
            inputs = [stored[f"in{n}"] for n in range(len(stored.files))]
        try:
            made = tensors_of(path, inputs, sys.argv[2])
        except Exception as error:  # LiteRT's own kinds, whatever they are
            words = " ".join(str(error).split()) or type(error).__name__
            path.with_suffix(".answer").write_text(words, encoding="utf-8")
            continue
        np.savez(path.with_suffix(".results.npz"), allow_pickle=False, **made)
    (folder / "version").write_text(version("ai-edge-litert"), encoding="utf-8")


if __name__ == "__main__":
    main()
