"""What was imported, beside the program that runs the file itself: onnxruntime, or qonnx.

The file is lowered with arithmetic "onnxruntime" too, and those integers are compared with the
other program's on random images. It runs in a process of its own, with a limit of time, so that
nothing that happens to it happens to us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import IntaglioError
from intaglio.exchange.compared import random_codes
from intaglio.exchange.from_onnx.values import Grid
from intaglio.exchange.importer import Imported, imported
from intaglio.fixed import preset
from intaglio.ops import Tensor
from intaglio.program import Program
from intaglio.sim.engine import Simulator
from intaglio.system.extras import remedy
from intaglio.system.processes import run_apart

Array = NDArray[Any]
WORKER = Path(__file__).with_name("runtime_worker.py")
SECONDS = 120.0  # for the other program to run the file
NEAR, FAR = 0.25, 0.01  # of all codes: by one, and by more, where layers are float32 there
PIXELS = 1 << 16  # of all images together
SHOWN = 3  # layers that a sentence names


@dataclass(frozen=True)
class Difference:
    """Codes of one output compared, how many differ, how many by more than one, and the largest
    difference."""

    output: str
    compared: int
    differing: int
    farther: int
    largest: int


@dataclass(frozen=True)
class Check:
    """What was found. `reason` says why nothing was compared, `fault` what of the other program's
    outputs cannot be; else `differences` are those of arithmetic onnxruntime, and `chosen` those of
    the arithmetic that was asked for.

    `way` is how the file was run. `own` counts the codes in which onnxruntime differs from itself
    without graph optimisation; `floats` are the layers that it computes in float32, whose codes
    next to a half may differ by one.
    """

    runtime: str
    version: str = ""
    way: str = ""
    images: int = 0
    reason: str = ""
    fault: str = ""
    differences: tuple[Difference, ...] = ()
    chosen: tuple[Difference, ...] = ()
    own: int = 0
    floats: dict[str, str] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """Codes of all outputs."""
        return sum(d.compared for d in self.differences)

    @property
    def differing(self) -> int:
        """Those that differ in arithmetic onnxruntime."""
        return sum(d.differing for d in self.differences)

    @property
    def allowed(self) -> tuple[int, int]:
        """How many may, and how many by more than one: none, but where layers are float32 there.

        Ties of round numbers fall to either side in float32, so that a quarter may differ by one.
        """
        if not self.floats:
            return 0, 0
        most, far = (int(max(share * self.compared, 2 * self.own)) for share in (NEAR, FAR))
        return most, far

    @property
    def wrong(self) -> bool:
        """Whether more differ than may, or outputs of another kind."""
        most, far = self.allowed
        farther = sum(d.farther for d in self.differences)
        return bool(self.fault) or self.differing > most or farther > far

    def sentences(self, arithmetic: str) -> list[str]:
        """For people."""
        if self.reason:
            return [f"not compared with {self.runtime}: {self.reason}"]
        if self.fault:
            return [f"{self.runtime} {self.version}{self.way}: {self.fault}; {self.plea()}"]
        lines = [
            f"{self.runtime} {self.version}{self.way}, {self.images} random images:"
            f" {self.differing:,} of {self.compared:,} output integers differ from --arithmetic"
            " onnxruntime"
        ]
        if self.floats and (self.differing or arithmetic == "onnxruntime"):
            named = [f"{name} ({why})" for name, why in list(self.floats.items())[:SHOWN]]
            more = len(self.floats) - len(named)
            lines.append(
                f"float32 there, where codes next to a half may differ by one: {', '.join(named)}"
                + (f" and {more} more" if more else "")
            )
        if arithmetic != "onnxruntime":
            lines += [
                f"{d.output}: --arithmetic {arithmetic} differs in {d.differing:,} of"
                f" {d.compared:,}, by {d.largest} at most"
                for d in self.chosen
            ]
        if self.wrong:
            most, far = self.allowed
            limit = f"at most {most:,} may differ, and {far:,} by more than one"
            lines.append(f"{limit if self.floats else 'none may differ'}; {self.plea()}")
        return lines

    def plea(self) -> str:
        """What to do about a difference."""
        return (
            f"this is a fault, of the import or of {self.runtime}: please report the file"
            " (--no-check imports it all the same)"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        found = asdict(self)
        return found | {
            "way": self.way.strip(),
            "compared": self.compared,
            "differing": self.differing,
            "allowed": self.allowed,
            "wrong": self.wrong,
        }


def check(
    path: Path,
    chosen: Imported,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Sequence[str] = (),
    images: int | None = None,
    seconds: float = SECONDS,
) -> Check:
    """Compare a file's own integers with those of what was imported from it, on 2 to 32 images: the
    more, the smaller they are."""
    runtime = "qonnx" if chosen.qonnx else "onnxruntime"
    if find_spec(runtime) is None:
        return Check(runtime, reason=f"it is not installed ({remedy(runtime)})")
    exact = chosen
    if chosen.program.arithmetic != preset("onnxruntime"):
        try:
            exact = imported(path, preset("onnxruntime"), mean=mean, std=std, outputs=outputs)
        except IntaglioError as error:
            return Check(runtime, reason=f"in its arithmetic, {error}")
    (x,) = exact.program.inputs
    count = images or max(2, min(32, PIXELS // int(np.prod(x.shape))))
    codes = random_codes(exact.program, count)
    found = run_there(runtime, path, fed(exact, codes, mean, std), seconds, exact.ends)
    if isinstance(found, str):
        return Check(runtime, reason=found)
    version, arrays = found
    floats = dict(exact.notes)
    if mean is not None or std is not None:
        floats["the image"] = "normalised in float32"
    way = " with its default graph optimisation" if runtime == "onnxruntime" else ""
    first, second = "default", "plain"
    if "default.0" not in arrays:
        first, way = "plain", " without graph optimisation, as it cannot run the file with it"
        floats["every layer"] = "run so"
    if "plain.0" not in arrays:
        second = "default"
    try:
        theirs, plain = (
            [codes_of(arrays[f"{kind}.{n}"], t) for n, t in enumerate(exact.program.outputs)]
            for kind in (first, second)
        )
    except ValueError as error:
        return Check(runtime, version, way, count, fault=str(error))
    return Check(
        runtime,
        version,
        way,
        count,
        differences=differences(exact.program, codes, theirs),
        chosen=differences(chosen.program, codes, theirs),
        own=sum(int(np.count_nonzero(a != b)) for a, b in zip(theirs, plain, strict=True)),
        floats=floats,
    )


def fed(
    exact: Imported, codes: Array, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Array:
    """What the file reads where the Program reads codes."""
    if not exact.reads_floats:
        (x,) = exact.program.inputs
        return codes.astype(f"{'i' if x.type.signed else 'u'}{max(8, x.type.bits) // 8}")
    if mean is None and std is None:
        (x,) = exact.program.inputs
        grid = Grid(x.type, np.float32(x.scale), x.zero_point[0])
        return grid.real(codes, np.float32)
    lines = (1, -1, 1, 1)
    real = codes / 255 - np.reshape(mean or [0.0], lines)
    return np.asarray(real / np.reshape(std or [1.0], lines), np.float32)


def codes_of(theirs: Array, tensor: Tensor) -> Array:
    """Their output as codes (N, C, H, W) of ours.

    Raises ValueError where it has another number of values, or none of the grid's.
    """
    shape = (len(theirs), *tensor.shape)
    if theirs.size != np.prod(shape):
        raise ValueError(f"its output has shape {theirs.shape}, and {tensor.name!r} {shape}")
    if theirs.dtype.kind == "f":
        theirs = np.rint(theirs.astype(np.float64) / tensor.scale) + tensor.zero_point[0]
    return theirs.astype(np.int64).reshape(shape)


def differences(program: Program, codes: Array, theirs: list[Array]) -> tuple[Difference, ...]:
    """Output by output."""
    ours = Simulator(program)(codes)
    found = []
    for tensor, other in zip(program.outputs, theirs, strict=True):
        gaps = np.abs(ours[tensor.name].astype(np.int64) - other)
        found.append(
            Difference(
                tensor.name,
                gaps.size,
                int(np.count_nonzero(gaps)),
                int(np.count_nonzero(gaps > 1)),
                int(gaps.max()),
            )
        )
    return tuple(found)


def run_there(
    runtime: str, path: Path, images: Array, seconds: float, ends: Sequence[str] = ()
) -> tuple[str, dict[str, Array]] | str:
    """Version and outputs of the other program, or the tensors `ends`; or why there are none."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "images.npy", images)
        (folder / "ends").write_text("\n".join(ends), encoding="utf-8")
        stopped = run_apart(WORKER, (runtime, path.resolve(), place), seconds)
        if (folder / "answer").exists():
            return f"it could not run the file: {(folder / 'answer').read_text('utf-8')[:300]}"
        if stopped or not (folder / "version").exists():
            return stopped or "it left no answer"
        with np.load(folder / "results.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        return (folder / "version").read_text("utf-8"), arrays
