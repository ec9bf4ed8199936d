"""Runs TOSA files in the reference model; a script for an environment that has tosa-tools.

tosa-tools needs an older NumPy than intaglio's other extras, so this file runs there by itself and
imports nothing of intaglio. Each line of standard input names a folder with `graph.tosa` and
`inputs.npz`; each line of standard output answers with the graph's status, after `outputs.npz` was
written beside them. Arrays of an input are in the graph's order, axis 0 counts runs.
"""

import os
import sys
from pathlib import Path

import numpy as np
import tosa_reference_model as model


def run(folder: Path) -> str:
    """The status of the worst of all runs: VALID, UNPREDICTABLE or ERROR."""
    with np.load(folder / "inputs.npz") as stored:
        inputs = [stored[name] for name in stored.files]
    graph = (folder / "graph.tosa").read_bytes()
    gathered, worst = [], "TOSA_VALID"
    for images in zip(*inputs, strict=True):
        outputs, status = model.run(graph, list(images), tosa_level="EIGHTK")
        if status != model.GraphStatus.TOSA_VALID:
            worst = status.name
            break
        gathered.append([np.asarray(output) for output in outputs])
    if worst == "TOSA_VALID":
        np.savez(folder / "outputs.npz", *(np.stack(runs) for runs in zip(*gathered, strict=True)))
    return worst


def main() -> None:
    """Answer every line. What the model prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = run(Path(line.rstrip("\n")))
        except (ValueError, RuntimeError) as error:
            answer = f"refused: {' '.join(str(error).split())}"
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
