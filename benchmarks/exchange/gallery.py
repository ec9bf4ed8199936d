"""Trained networks of others, from their files to integers: `make gallery`.

    INTAGLIO_MODELS=FOLDER python benchmarks/exchange/gallery.py [--only NAME ...] [--again]

A float ONNX file is quantised to W8A8 on --images (pictures; two that scikit-learn ships are
added), and its maps are compared with onnxruntime's of the float file, and so are those of
onnxruntime's own int8 network. --rtl DEVICE builds the networks named, and verifies two frames in
Verilator.

Nothing is downloaded: FOLDER holds clones of the repositories that docs/gallery.md names, or their
files alone, which are known by their digests (gallery_files.json). A row for every file: what it
is, how many integers of how many images were compared with the owner's runtime, tensor by tensor,
how many differ, and milliseconds an image of the simulator and of the runtime as it comes, one
thread each, turn by turn. Rows that are there stay, if made of the same file by the same code;
--again makes them anew. Written to results/gallery.json, and docs/gallery.md from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from gallery_page import write
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from intaglio.detect.pictures import is_picture, load_image
from intaglio.errors import IntaglioError
from intaglio.exchange.compared import random_codes
from intaglio.exchange.from_tflite.checked import check, fed
from intaglio.exchange.from_tflite.importer import Imported, imported
from intaglio.models import input_size, opened
from intaglio.program import Program
from intaglio.sim.engine import Simulator

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "gallery.json"
INTEGERS = 10_000_000  # of a file that are compared, as far as 100 images have them
ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """file, format  its name; of which kind
    repo         where it is from
    digest       SHA-256
    ops, mmac    of the Program; millions of multiplications an image
    runtime      the owner's, and its version
    images       compared, of which the first two are photographs where it takes such
    compared     integers, of all tensors that both have
    mismatches   of them
    cosine_min   the least of any map beside the float network's; of files that are float
    cosine_owner that of the runtime's own int8 network
    settings     of the quantiser, besides W8A8 with zero points
    cut          operators behind the last layer, which decoding does
    rtl          "verified", "built", or why neither
    ms, ms_owner an image, one thread; None where it was not run
    reason       why there is no Program, or no comparison
    """

    file: str
    format: str
    repo: str
    digest: str
    ops: int = 0
    mmac: float = 0.0
    runtime: str = ""
    images: int = 0
    compared: int = 0
    mismatches: int = 0
    cosine_min: float | None = None
    cosine_owner: float | None = None
    cut: int = 0
    rtl: str = "not tried"
    ms: float | None = None
    ms_owner: float | None = None
    reason: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    """Measure what is there, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="Files with one of these in their names.")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--images", type=Path, help="Pictures that calibrate float networks.")
    parser.add_argument("--rtl", metavar="DEVICE", help="Build and verify --only's networks.")
    options = parser.parse_args()
    folder = os.environ.get("INTAGLIO_MODELS")
    if not folder or not Path(folder).is_dir():
        sys.exit("INTAGLIO_MODELS must name a folder of model files; docs/gallery.md says whose.")
    known = json.loads((HERE / "gallery_files.json").read_text("utf-8"))
    found = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.exists() else []
    rows = {row["digest"]: row for row in found}
    there = {digest(p): p for p in files(Path(folder))}
    wanted = [
        (repo, path, sha)
        for repo, entry in known.items()
        for path, sha in entry["files"].items()
        if not options.only or any(name in path for name in options.only)
    ]
    for n, (repo, path, sha) in enumerate(wanted, 1):
        if sha not in there:
            print(f"{n}/{len(wanted)} {path}: not in {folder}", flush=True)
            continue
        if sha in rows and not options.again and not options.rtl:
            continue
        print(f"{n}/{len(wanted)} {path}", flush=True)
        if options.rtl:
            rows[sha]["rtl"] = in_hardware(there[sha], options.rtl)
        else:
            row = Row(Path(path).name, there[sha].suffix[1:], repo, sha)
            row = made(there[sha], row, known[repo], options.images)
            rows[sha] = asdict(row) | {"rtl": rows.get(sha, {}).get("rtl", row.rtl)}
        print(f"    {rows[sha]}", flush=True)
        order = [sha for entry in known.values() for sha in entry["files"].values()]
        kept = [rows[sha] for sha in order if sha in rows]
        RESULTS.write_text(json.dumps({"rows": kept}, indent=1) + "\n", encoding="utf-8")
        write(kept, known)


def files(folder: Path) -> Iterator[Path]:
    """Those that may be models."""
    return (p for p in sorted(folder.rglob("*")) if p.suffix in (".tflite", ".onnx"))


def digest(path: Path) -> str:
    """SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(path: Path, row: Row, entry: dict[str, Any], pictures: Path | None) -> Row:
    """The row of one file; of a float network the entry's `pixels` are mean and std of pixel / 255,
    and `settings` those of the quantiser."""
    try:
        if path.suffix == ".tflite":
            return of_tflite(path, row)
        return of_onnx(path, row, entry, pictures)
    except IntaglioError as error:
        return Row(**asdict(row) | {"reason": str(error).replace(str(path), path.name)})


def of_onnx(path: Path, row: Row, entry: dict[str, Any], pictures: Path | None) -> Row:
    """A float ONNX file beside onnxruntime."""
    from gallery_floats import measured
    from onnxruntime import __version__

    network = opened(path)
    size = input_size(network)
    if size is None:
        return Row(**asdict(row) | {"reason": "its size is not fixed; it is the same network"})
    named = [Path(name) for name in load_sample_images().filenames]
    named += sorted(p for p in pictures.iterdir() if is_picture(p)) if pictures else []
    images = np.stack([load_image(p, size, resize=True)[0] for p in named])
    pixels = entry.get("pixels", {"mean": [0.0], "std": [1.0]})
    settings = entry.get("settings", {})
    program, ours, theirs = measured(path, images, pixels["mean"], pixels["std"], settings)
    return Row(
        **asdict(row)
        | {
            "ops": len(program.ops),
            "mmac": round(sum(program.macs().values()) / 1e6, 1),
            "runtime": f"onnxruntime {__version__}",
            "images": len(images),
            "cosine_min": ours,
            "cosine_owner": theirs,
            "cut": len(program.meta.get("cut", ())),
            "settings": settings,
        }
    )


def in_hardware(path: Path, device: str) -> str:
    """ "verified", where two frames in Verilator have the Program's integers; or why not."""
    from intaglio.codegen.bundle import build
    from intaglio.codegen.running.verify import verify

    try:
        with TemporaryDirectory() as folder:
            build(imported(path).program, target=device).write(Path(folder) / "build")
            done = verify(Path(folder) / "build", frames=2)
    except IntaglioError as error:
        return f"{device}: {error}"
    return "verified" if done.mismatches == 0 else f"{device}: {done.sentence()}"


def of_tflite(path: Path, row: Row) -> Row:
    """A quantised TFLite file beside LiteRT."""
    network = imported(path)
    program = network.program
    each = sum(int(np.prod(tensor.shape)) for tensor in program.tensors.values())
    count = max(2, min(100, INTEGERS // each))
    codes = images(program, count)
    result = check(network, codes=codes)
    ours, theirs = milliseconds(network, codes[:1])
    return Row(
        **asdict(row)
        | {
            "ops": len(program.ops),
            "mmac": round(sum(program.macs().values()) / 1e6, 1),
            "runtime": f"LiteRT {result.version}",
            "images": count if result.compared else 0,
            "compared": result.compared,
            "mismatches": result.differing,
            "cut": len(network.cut),
            "ms": ours,
            "ms_owner": theirs,
            "reason": result.reason,
        }
    )


def images(program: Program, count: int) -> NDArray[np.int64]:
    """Codes of two photographs, where the input is one of pixels, and random ones."""
    codes = random_codes(program, count)
    (x,) = program.inputs
    channels, *size = x.shape
    if channels in (1, 3) and min(size) >= 32 and x.type.bits == 8:
        for n, photograph in enumerate(load_sample_images().filenames[:count]):
            fitted, _ = load_image(photograph, (size[0], size[1]), resize=True)
            grey = fitted.mean(axis=0, keepdims=True).round() if channels == 1 else fitted
            codes[n] = grey.astype(np.int64) + x.type.lo
    return codes


def milliseconds(network: Imported, codes: NDArray[np.int64]) -> tuple[float, float | None]:
    """An image of the simulator and of LiteRT as it comes (XNNPACK), medians of turns."""
    from ai_edge_litert.interpreter import Interpreter

    simulator = Simulator(network.program, threads=1)
    try:
        theirs: Any = Interpreter(model_content=network.file.content, num_threads=1)
        theirs.allocate_tensors()
        places = [detail["index"] for detail in theirs.get_input_details()]
        for place, values in zip(places, fed(network, codes), strict=True):
            theirs.set_tensor(place, values)
        theirs.invoke()
    except (RuntimeError, ValueError):
        theirs = None
    simulator(codes)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        simulator(codes)
        between = time.perf_counter()
        if theirs is not None:
            theirs.invoke()
        times[0].append(between - begin)
        times[1].append(time.perf_counter() - between)
    ours, owners = (round(statistics.median(t) * 1000, 3) for t in times)
    return ours, owners if theirs is not None else None


if __name__ == "__main__":
    main()
