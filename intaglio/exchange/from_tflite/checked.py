"""What was imported, beside LiteRT's reference kernels: every tensor of the file, not only its
outputs. LiteRT runs in a process of its own, with a limit of time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from intaglio.exchange.compared import random_codes
from intaglio.exchange.from_tflite.flat import CODES, Array
from intaglio.exchange.from_tflite.importer import Imported
from intaglio.exchange.from_tflite.kernels import SECONDS, opened, run
from intaglio.host import finished
from intaglio.sim.engine import Simulator

KERNELS = {"reference": "reference kernels", "xnnpack": "XNNPACK"}
PIXELS = 1 << 16  # of all images together
SHOWN = 3  # tensors that a sentence names


@dataclass(frozen=True)
class Check:
    """What was found: of `tensors` of the file, `compared` integers, of which `differing` differ,
    by tensor in `places`; `missing` tensors are part of another operation here, or were cut off.
    `reason` says why nothing was compared."""

    version: str
    images: int
    tensors: int
    compared: int
    places: dict[str, int]
    missing: int
    reason: str = ""
    kernels: str = KERNELS["reference"]

    @property
    def differing(self) -> int:
        """Integers."""
        return sum(self.places.values())

    @property
    def wrong(self) -> bool:
        """Whether any differs."""
        return self.differing > 0

    def sentences(self) -> list[str]:
        """For people."""
        if self.reason:
            return [f"not compared with LiteRT: {self.reason}"]
        lines = [
            f"LiteRT {self.version}, {self.kernels}, {self.images} random images:"
            f" {self.differing:,} of {self.compared:,} integers of {self.tensors} tensors differ"
        ]
        if self.missing:
            lines.append(f"not compared: {self.missing} tensors that no operation here makes")
        if self.wrong:
            named = [f"{name} ({count:,})" for name, count in list(self.places.items())[:SHOWN]]
            more = len(self.places) - len(named)
            lines.append(
                f"first at {', '.join(named)}{f' and {more} more' if more else ''}; none may"
                " differ: this is a fault of the import, please report the file (--no-check"
                " imports it all the same)"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return asdict(self) | {"differing": self.differing, "wrong": self.wrong}


def check(
    made: Imported, *, images: int | None = None, codes: Array | None = None,
    seconds: float = SECONDS,
) -> Check:  # fmt: skip
    """Compare on `codes` (N, C, H, W), or on 2 to 32 random images: the more, the smaller."""
    (x,) = made.program.inputs
    if codes is None:
        count = images or max(2, min(32, PIXELS // int(np.prod(x.shape))))
        codes = random_codes(made.program, count)
    count = len(codes)
    content = made.file.content
    if made.kernels != "reference":
        content = opened(content, [n for op in made.file.operators for n in op.outputs
                                   if n in made.tensors])  # fmt: skip
    version, answers = run({"file": (content, fed(made, codes))}, seconds, made.kernels)
    answer = answers["file"]
    if answer.words:
        return Check(version, count, 0, 0, {}, 0, f"it could not run the file: {answer.words}")
    ours = finished(made.program, Simulator(made.program, trace=True)(codes))
    places: dict[str, int] = {}
    compared = tensors = 0
    for number, held in made.tensors.items():
        if number not in answer.tensors:
            continue
        theirs = answer.tensors[number].reshape(count, -1).astype(np.int64)
        wrong = int(np.count_nonzero(theirs != held.view.lines(ours[held.name]).astype(np.int64)))
        compared, tensors = compared + theirs.size, tensors + 1
        if wrong:
            places[made.file.tensors[number].name] = wrong
    active = {n for op in made.file.operators for n in op.outputs}
    missing = len(active - set(made.tensors))
    return Check(version, count, tensors, compared, places, missing, "", KERNELS[made.kernels])


def fed(made: Imported, codes: Array) -> list[Array]:
    """What the file reads where the Program reads codes (N, C, H, W): shapes and types of its
    inputs."""
    by_number = {n: channels for n, channels in made.fed.items() if n in made.tensors}
    found = []
    for number in made.file.inputs:
        flat = made.file.tensors[number]
        entry = number if number in by_number else next(iter(by_number))  # behind a QUANTIZE
        if number not in by_number and len(made.file.inputs) > 1:  # nothing reads it
            found.append(np.zeros((len(codes), *flat.shape[1:]), CODES.get(flat.kind, np.float32)))
            continue
        part = codes[:, list(by_number[entry])]
        values = made.tensors[entry].view.lines(part).astype(np.int64)
        values = values.reshape(len(codes), *flat.shape[1:])
        if flat.type is not None:
            found.append(values.astype(CODES[flat.kind]))
            continue
        source = made.file.tensors[entry]
        real = (values - source.zero) * np.float32(source.scale)
        found.append(real.astype(np.float32))
    return found
