"""What search, reconstruction and training take, in float32 forwards of the same images.

    python benchmarks/quant/forwards.py --before PATH [--rounds 5]

Both checkouts by turns, each in a process of its own, with one thread of torch. A row of
results/forwards.json has processor seconds over those of the torch model's own forward of as many
images, medians of the rounds:

    search          DetPTQ on IMAGES images; naive: every p in every step by a run of the whole
                    quantised network on all images
    reconstruction  an iteration on a batch; naive: with variants of the images, the stem's products
                    and the real-valued network's results made anew for each
    training        a step of AQD on a batch
    distilled       the same beside the real-valued network's results
    float training  a step of the float detector on a batch, for comparison

`before` is the other checkout's commit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.detect import zoo
from intaglio.detect.coco import CocoData
from intaglio.detect.images import stack
from intaglio.detect.losses import detection_loss
from intaglio.detect.scenes import write_scenes
from intaglio.detect.train import normalise
from intaglio.quant import QuantConfig, Reconstruction
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.passes import simplify
from intaglio.quant.learn import reconstruct as reconstruction
from intaglio.quant.learn.aqd import TrainedNetwork
from intaglio.quant.ranges.scales import Calibration, calibrate, choose
from intaglio.quant.search.candidates import Candidates, plan
from intaglio.quant.search.detptq import search
from intaglio.quant.search.judge import Judge, exactly
from intaglio.quant.train import Pictures, TrainConfig, train

ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = ROOT / "benchmarks" / "results" / "forwards.json"
IMAGES, BATCH = 16, 32
STEPS = 12  # iterations and steps that are timed
HELD = 128  # images that a reconstruction holds at once, for four passes
SOME = 5  # naive runs that are timed
NAMES = ("search", "reconstruction", "training", "distilled", "float training")


def main() -> None:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--detectors", nargs="+", default=["fcos-nano", "retinanet-small"])
    parser.add_argument("--measure", metavar="DETECTOR", help="print this checkout's as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    before: Path = options.before.resolve()
    command = ["git", "-C", str(before), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    rows: list[dict[str, Any]] = []
    for detector in options.detectors:
        found: dict[Path, list[dict[str, float]]] = {before: [], ROOT: []}
        for _ in range(options.rounds):
            for tree, times in found.items():
                times.append(apart(tree, detector))
                print(detector, tree.name, times[-1], flush=True)
        for name in NAMES:
            row: dict[str, Any] = {"what": name, "detector": detector}
            for key, times in (("before", found[before]), ("after", found[ROOT])):
                row[key] = round(median(one[name] for one in times), 2)
            naive = [one[f"naive {name}"] for one in found[ROOT] if f"naive {name}" in one]
            row["naive"] = round(median(naive), 2) if naive else None
            row["forward_ms"] = round(1e3 * median(one["forward"] for one in found[ROOT]), 3)
            rows.append(row | {"images": IMAGES, "rounds": options.rounds, "commit": commit})
            print(json.dumps(rows[-1]), flush=True)
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


def apart(tree: Path, detector: str) -> dict[str, float]:
    """What `measured` finds in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--measure", detector], env=environment, cwd=tree, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def took(work: Callable[[], object]) -> float:
    """Processor seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measured(detector: str) -> dict[str, float]:
    """Every row, in forwards; and a forward of an image in seconds."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = write_scenes(folder, STEPS * BATCH, 96, 0, "train")
        data = CocoData(listed, folder / "images")
        images = stack([data.file(i) for i in data.ids[:IMAGES]], None)
        forward = one_forward(detector, images)
        pictures = Pictures(data, zoo.load(detector).head_spec.classes, zoo.find(detector).size)
        for number in range(len(pictures)):  # read and kept
            _ = pictures[number]
        found = {
            **searched(detector, images),
            **reconstructed(detector, images),
            "training": step(detector, images, pictures, 0.0),
            "distilled": step(detector, images, pictures, 1.0),
            "float training": float_step(detector, pictures),
        }
    return {"forward": forward} | {key: value / forward for key, value in found.items()}


def one_forward(detector: str, images: NDArray[np.uint8]) -> float:
    """Seconds of the torch model's own, an image."""
    model = zoo.load(detector).eval()
    with torch.no_grad():
        pixels = normalise(model, torch.from_numpy(images))
        times = [took(lambda: model(pixels)) for _ in range(20)]
    return median(times) / len(images)


def prepared(
    detector: str, images: NDArray[np.uint8], config: QuantConfig
) -> tuple[Any, Any, Calibration]:
    """Head, graph and calibration."""
    model = zoo.load(detector)
    graph = simplify(capture(model, images.shape[1:]))
    return model.head_spec, graph, calibrate(graph, images, config)


def searched(detector: str, images: NDArray[np.uint8]) -> dict[str, float]:
    """A search, seconds an image; every candidate by a run of the whole network."""
    config = QuantConfig(wbits=4, abits=4, method="detptq")
    spec, graph, calibration = prepared(detector, images, config)
    seconds = took(lambda: search(graph, calibration, images, config, spec))
    candidates = Candidates(graph, calibration, config, images)
    count = len(candidates.powers) * len(plan(graph, calibration))
    with exactly():
        network = Judge(candidates, images, spec, "cpu").network()

        def run() -> None:
            network.become(candidates.start)
            network.losses()

        run()
        naive = count * median(took(run) for _ in range(SOME))
    return {"search": seconds / len(images), "naive search": naive / len(images)}


def reconstructed(detector: str, images: NDArray[np.uint8]) -> dict[str, float]:
    """An iteration, seconds an image of its batch."""
    config = QuantConfig(wbits=4, abits=4, method="minmax")
    spec, graph, calibration = prepared(detector, images, config)
    scales = choose(graph, calibration, config)

    def seconds(iterations: int) -> float:
        settings = Reconstruction(iterations=iterations, batch=BATCH)
        again = QuantConfig(wbits=4, abits=4, method="minmax", reconstruct=settings)
        return took(
            lambda: reconstruction.reconstruct(
                graph, graph, scales, calibration.groups, images, again, spec
            )
        )

    # As many as the images that are held are good for, without what begins and ends it.
    reconstruction.PIXELS, start = HELD * images[0, 0].size, seconds(0)
    count = reconstruction.PASSES * HELD // BATCH
    shared = (seconds(count) - start) / count
    reconstruction.PIXELS, reconstruction.PASSES = 0, 1
    naive = (seconds(STEPS) - start) / STEPS
    return {"reconstruction": shared / BATCH, "naive reconstruction": naive / BATCH}


def step(detector: str, images: NDArray[np.uint8], pictures: Pictures, distil: float) -> float:
    """A step of AQD, seconds an image; the first, and what ends it, are not counted."""
    model = zoo.load(detector)
    network = TrainedNetwork(model, images, QuantConfig(wbits=4, abits=4))
    moments: list[float] = []

    def report(line: str, done: int, total: int) -> None:
        moments.append(time.process_time())

    training = TrainConfig(epochs=1, batch=BATCH, distil=distil)
    train(network, model.head_spec, pictures, training, report=report)
    return median(b - a for a, b in pairwise(moments)) / BATCH


def float_step(detector: str, pictures: Pictures) -> float:
    """A step of the float detector, seconds an image."""
    model = zoo.load(detector).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    items = [pictures[number] for number in range(BATCH)]
    images, boxes, labels = (torch.stack([item[part] for item in items]) for part in range(3))

    def run() -> None:
        maps = [level for maps in model(normalise(model, images)) for level in maps]
        terms = detection_loss(model.head_spec, maps, boxes, labels)
        optimiser.zero_grad()
        torch.autograd.backward(list(terms.values()))
        optimiser.step()

    run()
    return median(took(run) for _ in range(SOME)) / BATCH


if __name__ == "__main__":
    main()
