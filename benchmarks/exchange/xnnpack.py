"""LiteRT as it runs by default, with XNNPACK, beside its own reference kernels: every tensor.

    python benchmarks/exchange/xnnpack.py FOLDER [--images 100]

Each int8 .tflite file of the folder is written again with every tensor as an output, which XNNPACK
then has to make, and run on random codes by both. The first table is of each kind of operator by
itself, fed with what the reference kernels give it; the second, of each file, how far that has come
at its outputs. `again` are integers that differ between a run with one thread and one with two.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from intaglio.errors import IntaglioError
from intaglio.exchange.from_tflite.flat import File, read
from intaglio.exchange.from_tflite.magic import MAGIC

Codes = NDArray[np.int64]
KINDS = ("INT8", "UINT8")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    kinds: dict[str, Codes] = defaultdict(lambda: np.zeros(4, np.int64))
    files = []
    for path in sorted(options.folder.rglob("*.tflite")):
        try:
            file = read(path)
        except IntaglioError:
            continue
        if len(file.inputs) == 1 and file.tensors[file.inputs[0]].kind in KINDS:
            files.append(compared(file, options.images, kinds))
    print("| operator | integers | differ | by more than 1 | most |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind, (count, wrong, far, most) in sorted(kinds.items()):
        print(f"| {kind} | {count:,} | {wrong:,} | {far:,} | {most} |")
    print(
        "\n| file | tensors | that differ | integers | that differ | of the outputs | by | again |"
    )
    print("| --- |" + " ---: |" * 7)
    for row in files:
        print(f"| {' | '.join(f'{c:,}' if isinstance(c, int) else c for c in row)} |")


def compared(file: File, count: int, kinds: dict[str, Codes]) -> tuple[str | int, ...]:
    """A file's row; what its operators do is added to `kinds`."""
    content, numbers = opened(file), made_by(file)
    flat, rng = file.tensors[file.inputs[0]], np.random.default_rng(0)
    low = 0 if flat.kind == "UINT8" else -128
    images = rng.integers(low, low + 256, (count, *flat.shape[1:]))
    fed = images.astype(np.uint8 if flat.kind == "UINT8" else np.int8)
    ours, theirs, again = (
        tensors(content, [fed[:, None]], numbers, how, threads)
        for how, threads in (
            (OpResolverType.BUILTIN_REF, 1), (OpResolverType.BUILTIN, 1),
            (OpResolverType.BUILTIN, 2),
        )
    )  # fmt: skip
    gaps = {n: np.abs(ours[n] - theirs[n]) for n in numbers}
    for number, op in enumerate(file.operators):
        reads = list(dict.fromkeys(n for n in op.inputs if file.tensors[n].data is None))
        if op.outputs[0] in gaps:
            given = [ours[n] if n in ours else fed[:, None] for n in reads]
            alone = tensors(single(file, number, reads), given, [op.outputs[0]],
                            OpResolverType.BUILTIN, 1)  # fmt: skip
            gap = np.abs(alone[op.outputs[0]] - ours[op.outputs[0]])
            known = kinds[op.kind]
            kinds[op.kind] = np.array([
                known[0] + gap.size, known[1] + np.count_nonzero(gap),
                known[2] + np.count_nonzero(gap > 1), max(known[3], gap.max(initial=0)),
            ])  # fmt: skip
    ends = [gaps[n] for n in file.outputs if n in gaps]
    return (
        f"`{file.path.name}`", len(gaps), sum(bool(g.any()) for g in gaps.values()),
        sum(g.size for g in gaps.values()), sum(int(np.count_nonzero(g)) for g in gaps.values()),
        f"{sum(int(np.count_nonzero(g)) for g in ends):,} of {sum(g.size for g in ends):,}",
        max(int(g.max(initial=0)) for g in ends),
        sum(int(np.count_nonzero(theirs[n] != again[n])) for n in numbers),
    )  # fmt: skip


def made_by(file: File) -> list[int]:
    """Tensors of codes that operators make."""
    return [n for op in file.operators for n in op.outputs if file.tensors[n].kind in KINDS]


def opened(file: File) -> bytes:
    """The file with each of those as an output."""
    return changed(file, lambda graph: setattr(graph, "outputs", made_by(file)))


def single(file: File, number: int, reads: list[int]) -> bytes:
    """The file with one of its operators alone."""

    def cut(graph: Any) -> None:
        graph.operators = [graph.operators[number]]
        graph.inputs, graph.outputs = reads, list(file.operators[number].outputs)

    return changed(file, cut)


def changed(file: File, change: Callable[[Any], None]) -> bytes:
    """The file with another graph."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.content, 0))
    change(model.subgraphs[0])
    model.signatureDefs = None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), MAGIC)
    return bytes(builder.Output())


def tensors(
    content: bytes, given: list[Any], numbers: list[int], how: OpResolverType, threads: int
) -> dict[int, Codes]:
    """Each of the tensors, of all images; `given` are the graph's inputs, (N, 1, ...)."""
    runner = Interpreter(
        model_content=content, experimental_op_resolver_type=how, num_threads=threads
    )
    runner.allocate_tensors()
    entries = runner.get_input_details()
    found: dict[int, list[Codes]] = {n: [] for n in numbers}
    for n in range(len(given[0])):
        for entry, array in zip(entries, given, strict=True):
            runner.set_tensor(entry["index"], array[n].astype(entry["dtype"]))
        runner.invoke()
        for number in numbers:
            found[number].append(runner.get_tensor(number).astype(np.int64))
    return {number: np.stack(arrays) for number, arrays in found.items()}


if __name__ == "__main__":
    main()
