"""Places of all kinds that a result can be sent to, and results that stand there already.

Each function here makes a place for one result and says what the command's exit code must be.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from networks import skip, tiny
from PIL import Image

from intaglio.cmodel.folder import GOLDEN, write_c_model
from intaglio.codegen.folder.manifest import is_build, made_since
from intaglio.cosim.trace import Trace, write_trace
from intaglio.detect.scenes import is_scenes, write_scenes
from intaglio.exchange.to_onnx.graph import write
from intaglio.exchange.to_onnx.integer import to_integer
from intaglio.file import load, save

OLD = b"what a user had there"
STDOUT = ("-", "/dev/stdout", "/dev/fd/1")
ENDINGS = {
    "program": ".intaglio", "json": ".json", "list": ".json", "html": ".html", "onnx": ".onnx",
}  # fmt: skip
FOLDERS = ("trace", "build", "golden", "scenes", "runs")


@dataclass(frozen=True)
class Place:
    """Where a result is sent.

    words  what the command is given.
    at     where the result then is; None: it is sent on, to the standard output or a device.
    code   the exit code that this asks for.
    costly it is refused for what stands there, which --force may replace.
    force  --force is given.
    """

    words: Path | str
    at: Path | None
    code: int = 0
    costly: bool = False
    force: bool = False


@dataclass(frozen=True)
class Spot:
    """What a place is made for: a result of this kind, of a command that works in the empty folder
    `here` and reads `reads`. `small` is a file system, `built` a build."""

    here: Path
    small: Path
    built: Path
    kind: str
    reads: tuple[Path, ...]
    can_force: bool
    number: int
    rng: random.Random

    @property
    def new(self) -> str:
        """A name that nothing has."""
        return f"new{self.number}{ENDINGS.get(self.kind, '')}"

    @property
    def folder(self) -> bool:
        """Whether the result is one."""
        return self.kind in FOLDERS


def fresh(s: Spot) -> Place:
    """Nothing is there."""
    return Place(s.new, s.here / s.new)


def missing(s: Spot) -> Place:
    """Nor are the folders above it, which are named in a roundabout way."""
    above = f"a{s.number}"
    return Place(f"{above}/b/../b/{s.new}", s.here / above / "b" / s.new)


def earlier(s: Spot) -> Place:
    """A result of the same kind; a trace is kept."""
    earlier_result(s, s.here / s.new)
    kept = s.kind == "trace"
    return Place(s.new, s.here / s.new, 2 if kept else 0, costly=kept)


def costly(s: Spot) -> Place:
    """What took long, or is a user's own."""
    at = s.here / s.new
    if not s.folder:
        at.write_bytes(OLD)
        return Place(s.new, at, 2, costly=True)
    earlier_result(s, at)
    if s.kind == "runs":
        return Place(s.new, at)
    for name in ("bitstream/shell.bit", "sim/verilator.log", "images/mine.png"):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(OLD)
    return Place(s.new, at, 2, costly=s.kind != "scenes")


def forced(s: Spot) -> Place:
    """The same, and --force; where the command knows that."""
    if not s.can_force:
        return fresh(s)
    place = costly(s)
    return Place(place.words, place.at, place.code, place.costly, force=True)


def read(s: Spot) -> Place:
    """An input, by one of its names."""
    if not s.reads:
        return costly(s)
    file = s.rng.choice(s.reads)
    if s.kind == "runs":  # beside the pictures, never in their place
        return Place("copied", shutil.copytree(file.parent, s.here / "copied"))
    if s.folder:
        return Place(file.parent, file.parent, 2)
    match s.rng.randrange(4):
        case 0:
            return Place(file, file, 2)
        case 1:
            return Place(f"{file.parent}/../{file.parent.name}/./{file.name}", file, 2)
        case 2:
            (s.here / s.new).symlink_to(file)
        case _:
            os.link(file, s.here / s.new)
    return Place(s.new, s.here / s.new, 2)


def linked(s: Spot) -> Place:
    """A link, which stays, to a place elsewhere."""
    there = s.here / f"there{s.number}"
    there.mkdir()
    at = there / s.new
    if s.folder:
        at.mkdir()
    elif s.rng.random() < 0.5:
        earlier_result(s, at)
    (s.here / s.new).symlink_to(Path(there.name) / s.new)
    return Place(s.new, at)


def empty(s: Spot) -> Place:
    """An empty folder; an empty file, as `mktemp` makes one."""
    at = s.here / s.new
    at.mkdir() if s.folder else at.touch()
    return Place(f"./{s.new}/." if s.folder else f"./{s.new}", at)


def read_only(s: Spot) -> Place:
    """A folder, or a file, that must not be written."""
    if not s.folder and s.rng.random() < 0.5:
        at = s.here / s.new
        earlier_result(s, at)
        at.chmod(0o444)
        return Place(s.new, at, 2)
    there = s.here / f"locked{s.number}"
    there.mkdir()
    there.chmod(0o555)
    return Place(f"{there.name}/{s.new}", there / s.new, 2)


def full(s: Spot) -> Place:
    """A file system without a byte left, but with an earlier result."""
    at = s.small / s.new
    if s.kind != "trace":
        earlier_result(s, at)
    return Place(at, at, 2)


def pipe(s: Spot) -> Place:
    """A pipe that somebody reads from."""
    if s.folder:
        return taken(s)
    os.mkfifo(s.here / s.new)
    return Place(s.new, s.here / s.new)


def device(s: Spot) -> Place:
    """A device that takes everything, or nothing."""
    if s.folder:
        return Place("/dev/null", None, 2)
    return s.rng.choice([Place("/dev/full", None, 2), Place("/dev/null", None)])


def output(s: Spot) -> Place:
    """The standard output, by one of its names."""
    return fresh(s) if s.folder else Place(s.rng.choice(STDOUT), None)


def taken(s: Spot) -> Place:
    """A folder where a file is to be, a file where a folder is; or a file above."""
    at = s.here / s.new
    if s.rng.random() < 0.5:
        at.write_bytes(OLD)
        return Place(f"{s.new}/{s.new}", at / s.new, 2)
    if s.folder:
        at.write_bytes(OLD)
    else:
        at.mkdir()
        (at / "mine").write_bytes(OLD)
    return Place(s.new, at, 2)


def circle(s: Spot) -> Place:
    """A link to itself."""
    (s.here / s.new).symlink_to(s.new)
    return Place(s.new, s.here / s.new, 2)


PLACES: tuple[Callable[[Spot], Place], ...] = (
    fresh, missing, earlier, costly, forced, read, linked, empty, read_only, full, pipe, device,
    output, taken, circle,
)  # fmt: skip


def earlier_result(s: Spot, at: Path) -> None:
    """A result of a kind, small and whole."""
    match s.kind:
        case "program":
            save(tiny(), at)
        case "json":
            at.write_text('{"old": true}\n')
        case "list":
            at.write_text("[]\n")
        case "html":
            at.write_text("<!DOCTYPE html><html><p>old</p></html>")
        case "onnx":
            write(to_integer(tiny()), at)
        case "trace":
            _, height, width = skip().inputs[0].shape
            write_trace(skip(), np.zeros((1, 3, height, width), np.uint8), at, tensors=["sum"])
        case "scenes":
            write_scenes(at, 1, 32, 9, "train")
        case "build":
            shutil.copytree(s.built, at)
        case "golden":
            write_c_model(tiny(), at, "old")
        case _:
            at.mkdir()
            (at / "0.png").write_bytes(OLD)
            (at / "0.npz").write_bytes(OLD)


def is_whole(kind: str, at: Path) -> bool:
    """Whether a result is all there. Raises whatever a damaged one raises."""
    match kind:
        case "trace":
            trace = Trace.open(at)
            return all(trace.codes(name).size for name in trace.tensors)
        case "scenes":
            return is_scenes(at)
        case "build":
            return is_build(at) and made_since(at) == ""
        case "golden":
            return GOLDEN.ours(at) and GOLDEN.costly(at) == ""
        case "runs":
            for drawing in at.glob("*.boxes.png"):
                Image.open(drawing).load()
            maps = [dict(np.load(path)) for path in at.glob("*.maps.npz")]
            return all(maps)
    return is_whole_file(kind, at.read_bytes())


def is_whole_file(kind: str, data: bytes) -> bool:
    """Whether bytes are a whole result."""
    match kind:
        case "json" | "list":
            return isinstance(json.loads(data), dict if kind == "json" else list)
        case "html":
            HTMLParser().feed(data.decode())
            return data.lower().startswith(b"<!doctype html") and data.rstrip().endswith(b"</html>")
        case "onnx":
            onnx.checker.check_model(onnx.load_model_from_string(data))
            return True
    with TemporaryDirectory() as folder:
        path = Path(folder) / "program.intaglio"
        path.write_bytes(data)
        return bool(load(path).ops)
