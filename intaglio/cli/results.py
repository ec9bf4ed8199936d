"""What a command reads and where its results go, as `places` decides on it before the work."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.shared import console
from intaglio.system import places
from intaglio.system.disk import descriptor, is_stream
from intaglio.system.places import FORCE, Kind, Result, Source

ForceOption = Annotated[
    bool, typer.Option(FORCE, help="Replace what took long to make, or is something else.")
]


def begins(start: bytes) -> Callable[[Path], bool]:
    """Whether a file begins so, in letters of either case."""

    def found(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(start)).lower() == start.lower()

    return found


JSON = Kind("JSON", begins(b"{"))
XML = Kind("XML", begins(b"<?xml"))
WAVE = Kind("a waveform")
PAGE = Kind("a page", begins(b"<!doctype html"))


def settle(
    sources: Iterable[Source | Path | None], *results: Result, json_file: Path | None = None,
    force: bool | None = None,
) -> None:  # fmt: skip
    """`places.settle`. What is printed goes to the standard error where a result goes to the
    standard output."""
    read = [s if isinstance(s, Source) else Source(s) for s in sources if s is not None]
    written = [*results, *([Result("--json", json_file, JSON)] if json_file else [])]
    console.stderr = any(descriptor(result.path) == 1 for result in written)
    places.settle(read, written, force=force)


def pictures(images: Sequence[Path] | None) -> list[Source]:
    """Folders of images, and images."""
    from intaglio.detect.images import named
    from intaglio.detect.pictures import is_picture

    def source(place: Path) -> Source:
        return Source(place, lambda name: named(name) or is_picture(place / name))

    return [source(place) for place in images or ()]


def model_source(model: str | Path) -> Source | None:
    """A file, a build, or the Python file of a network; None where MODEL is a name."""
    path = Path(model)
    if path.is_dir():
        return build_source(path)
    if path.exists():
        return Source(path)
    module, colon, _ = str(model).partition(":")
    file = Path(f"{module.replace('.', '/')}.py")
    return Source(file) if colon and file.is_file() else None


def build_source(folder: Path) -> Source:
    """What a build wrote; other things beside it are not read."""
    from intaglio.codegen.folder.manifest import written

    names = written(folder)
    return Source(folder, lambda name: name.as_posix() in names)


def state_beside(output: Path, ending: str) -> Path | None:
    """Where work that can be gone on with is kept: beside its result, if that is a file."""
    return None if is_stream(output) else output.with_name(output.name + ending)
