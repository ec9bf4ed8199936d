"""A bitstream is made aside: one that stands already does so until the new one is complete."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from intaglio.codegen.folder.manifest import BITSTREAM, packed_files, read_manifest, written
from intaglio.errors import BuildError, IntaglioError, KeptWarning
from intaglio.system.disk import PART, reason, whole_folder
from intaglio.system.interrupts import held, released
from intaglio.system.places import FORCE

FAILED = f"{BITSTREAM}.failed"  # beside a bitstream: what was tried after it


P = ParamSpec("P")
R = TypeVar("R")


def made_aside(make: Callable[P, R]) -> Callable[P, R]:
    """`make(folder, ..., force)` of a build works in a copy of it, and its result takes its place
    as `aside` says."""

    @wraps(make)
    def put_in_place(*args: P.args, **settings: P.kwargs) -> R:
        given = signature(make).bind(*args, **settings)
        given.apply_defaults()
        with aside(Path(given.arguments["folder"]), force=given.arguments["force"]) as copy:
            given.arguments["folder"] = copy
            return make(*given.args, **given.kwargs)

    return put_in_place


@contextmanager
def aside(folder: Path, *, force: bool) -> Iterator[Path]:
    """Yields a copy of a build to work in, whose folder `bitstream` becomes that of the build.

    One with a packed file is replaced by another such alone, and where that is `force`d; what else
    was tried goes to `bitstream.failed`. So does what an error leaves that is said in a sentence,
    which then names the logs there. Whatever else ends the work leaves no trace. Raises BuildError.
    """
    read_manifest(folder)
    for file in [] if force else packed_files(folder):
        raise BuildError(
            f"{folder / BITSTREAM} must be a folder that may be replaced, not one with the"
            f" bitstream {file.name}; move it away, or replace it with {FORCE}."
        )
    copy: Path | None = None
    try:
        with held():
            try:
                copy = Path(tempfile.mkdtemp(prefix=PART, dir=folder))
                for name in written(folder):
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / name, copy / name)
                with released():
                    yield copy
                place(copy, folder)
            except IntaglioError as error:
                if copy is None:
                    raise
                goal = place(copy, folder)
                raise type(error)(renamed(str(error), copy, folder, goal)) from error
            finally:
                if copy is not None:
                    shutil.rmtree(copy, ignore_errors=True)
    except OSError as error:
        raise BuildError(f"{folder} must be writable, not: {reason(error)}.") from error


def place(copy: Path, folder: Path) -> Path:
    """Move what was made, or tried, to where it belongs, which is returned; logs of its simulation
    too."""
    made, goal = copy / BITSTREAM, folder / BITSTREAM
    if not made.is_dir():
        return goal
    if packed_files(folder) and not packed_files(copy):
        goal = folder / FAILED
        warnings.warn(
            f"{folder / BITSTREAM} stays as it was; what was tried now is in {goal}.",
            KeptWarning, stacklevel=2,
        )  # fmt: skip
    with whole_folder(goal) as part:
        for entry in [*made.iterdir(), *(copy / "sim").glob("*.log")]:
            shutil.move(entry, part / entry.name)
    return goal


def renamed(sentence: str, copy: Path, folder: Path, goal: Path) -> str:
    """A sentence with paths as they are now."""
    for before, now in ((copy / BITSTREAM, goal), (copy / "sim", goal), (copy, folder)):
        sentence = sentence.replace(str(before), str(now))
    return sentence
