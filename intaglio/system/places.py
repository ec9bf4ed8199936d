"""Where results go: decided, and made ready, before the work.

A command says what it reads and what it is to write. Refused is what would cost a user something:

- a result in the place of something that is read, or of another result;
- a result in the place of one that took long, unless that is forced;
- a place in which nothing can be written.

Folders are made here, and taken back where nothing came to be in them.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from intaglio.errors import DataError, IntaglioError
from intaglio.system.disk import (
    PART,
    descriptor,
    followed,
    is_stream,
    missing,
    reason,
    remove_empty,
)
from intaglio.system.interrupts import held

FORCE = "--force"


def nothing(path: Path) -> str:
    """What stands there may be replaced."""
    return ""


def anything(path: Path) -> bool:
    """Every one is."""
    return True


@dataclass(frozen=True)
class Kind:
    """A kind of result, and what is known of one that stands there already.

    name    as a refusal calls it: "an earlier build".
    ours    whether what is there is one; anything else is not replaced, a folder not even by force.
    costly  what of it took long to make, or is a user's own, in words like "bitstream/ and sim/";
            "" where it may be replaced.
    """

    name: str
    ours: Callable[[Path], bool] = anything
    costly: Callable[[Path], str] = nothing


@dataclass(frozen=True)
class Source:
    """What a command reads: a file, or a folder, and which files in it by their relative paths."""

    path: Path
    reads: Callable[[Path], bool] = anything


@dataclass(frozen=True)
class Result:
    """What a command writes: a file, or a `folder`, which is replaced whole or `shared`.

    option  where the user has named it, like `-o`.
    """

    option: str
    path: Path
    kind: Kind = Kind("a file")
    folder: bool = False
    shared: bool = False


MADE: list[Path] = []  # folders, for the results of the command that runs


def forget() -> None:
    """When a command has ended: take back the folders in which nothing came to be."""
    remove_empty(MADE)
    MADE.clear()


def settle(
    sources: Iterable[Source], results: Sequence[Result], *, force: bool | None = None
) -> None:
    """Decide on every result of a command, and make the folders that they need, until `forget`.
    Raises DataError, and then has made none.

    force  whether what is costly may be replaced; None: the command cannot be forced.
    """
    with held():
        MADE.extend(decided(list(sources), results, force))


def decided(sources: list[Source], results: Sequence[Result], force: bool | None) -> list[Path]:
    """As `settle`; the folders that were made, innermost first."""
    files: dict[Hashable, Path] = {}
    for source in sources:
        if not source.path.is_dir():
            files |= dict.fromkeys(identities(source.path), source.path)
    taken: dict[Hashable, Result] = {}
    made: list[Path] = []
    tried: set[Path] = set()
    try:
        for result in results:
            check_distinct(result, taken)
            taken |= dict.fromkeys(identities(result.path), result)
            if result.folder:
                if descriptor(result.path) is not None:
                    raise DataError(
                        f"{result.option} must be a folder, not {result.path}, which is an open"
                        " file; name one."
                    )
                check_apart(result, sources)
                check_folder(
                    result.path, result.kind, force, option=result.option, shared=result.shared
                )
            else:
                check_unread(result, files, sources)
                check_file(result, force)
            place = folder_of(result)
            if place is not None and place not in tried:
                tried.add(place)
                made = ready(place, result.path if result.folder else result.path.parent) + made
    except BaseException:
        remove_empty(made)
        raise
    return made


def identities(path: Path) -> Iterator[Hashable]:
    """What two paths have in common where they are one place: by another spelling, through links,
    or the same file under two names. Devices and pipes are places for any number of results."""
    number = descriptor(path)
    if number is not None:
        yield number
    elif not is_stream(path):
        yield os.path.realpath(path)
        with suppress(OSError):
            found = path.stat()
            yield found.st_dev, found.st_ino


def check_distinct(result: Result, taken: dict[Hashable, Result]) -> None:
    """No two results have one place. Raises DataError."""
    for identity in identities(result.path):
        if identity in taken:
            other = taken[identity]
            raise DataError(
                f"{result.option} must be a place of its own, not {result.path}, where"
                f" {other.option} goes{spelled(result.path, other.path)}; give it another name."
            )


def check_apart(result: Result, sources: Sequence[Source]) -> None:
    """Nothing is read from a folder that is replaced. Raises DataError."""
    for source in sources:
        if not result.shared and inside(source.path, result.path):
            raise DataError(
                f"{result.option} must be a folder from which nothing is read, as it is replaced,"
                f" not {result.path}: {source.path} is in it; choose another folder."
            )


def check_unread(result: Result, files: dict[Hashable, Path], sources: Sequence[Source]) -> None:
    """What is read is not replaced. Raises DataError."""
    found = next((files[i] for i in identities(result.path) if i in files), None)
    for source in sources:
        if found is None and source.path.is_dir():
            found = read_in(result.path, source)
    if found is not None:
        raise DataError(
            f"{result.option} must be a file of its own, not {result.path}, which is"
            f" read{spelled(result.path, found)}; give it another name."
        )


def read_in(path: Path, source: Source) -> Path | None:
    """The file, read from a folder, that `path` is too; None where it is none."""
    if is_stream(path) or not path.is_file():
        return None
    if inside(path, source.path):
        name = Path(os.path.realpath(path)).relative_to(os.path.realpath(source.path))
        if source.reads(name):
            return source.path / name
    wanted = set(identities(path))
    linked = source.path.rglob("*") if path.stat().st_nlink > 1 or path.is_symlink() else ()
    for other in linked:
        name = other.relative_to(source.path)
        if source.reads(name) and wanted.intersection(identities(other)):
            return other
    return None


def check_folder(
    path: Path,
    kind: Kind,
    force: bool | None = None,
    *,
    option: str = "",
    shared: bool = False,
    refused: type[IntaglioError] = DataError,
) -> None:
    """A folder may be replaced: it is new, empty, or of this kind, and nothing in it is costly
    unless that is forced. A `shared` one may hold anything. Raises `refused`."""
    what = f"{option} {path}".strip()
    try:
        if not os.path.lexists(path) or (path.is_dir() and (shared or not entries(path))):
            return
        if not path.is_dir() or not kind.ours(path):
            raise refused(
                f"{what} must be a new folder or {kind.name}, not something else; choose another or"
                " remove it."
            )
        costly = kind.costly(path)
    except OSError as cause:
        raise refused(f"{what} must be readable, not: {reason(cause)}.") from cause
    if costly and not force:
        raise refused(
            f"{what} must be a folder that may be replaced, not {kind.name} with {costly}; choose"
            f" another, {instead(force)}."
        )


def check_file(result: Result, force: bool | None) -> None:
    """A file may be written, and replaced if it is there. Raises DataError."""
    path = result.path
    if is_stream(path):
        return
    if path.is_dir():
        raise DataError(f"{result.option} must be a file, not {path}, which is a folder.")
    try:
        found = followed(path)
        if found.exists() and not os.access(found, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error
    if not found.exists():
        return
    if force or not path.stat().st_size:
        return
    if not result.kind.ours(path):
        raise DataError(
            f"{result.option} must be a new file or {result.kind.name}, not {path}, which is"
            f" something else; choose another, {instead(force)}."
        )
    costly = result.kind.costly(path)
    if costly:
        raise DataError(
            f"{result.option} must be a file that may be replaced, not {path}, {costly}; choose"
            f" another, {instead(force)}."
        )


def instead(force: bool | None) -> str:
    """What else than another place there is."""
    return "or remove it" if force is None else f"or replace it with {FORCE}"


def folder_of(result: Result) -> Path | None:
    """The folder in which a result comes to be; None where it is sent to what is there."""
    if is_stream(result.path):
        return None
    target = Path(os.path.realpath(result.path))
    return target if result.folder else target.parent


def ready(folder: Path, shown: Path) -> list[Path]:
    """Make a folder in which files can be written, called `shown`; those that were made, innermost
    first. Raises DataError."""
    made: list[Path] = []
    must = "be a folder that can be made"
    try:
        made = missing(folder)
        folder.mkdir(parents=True, exist_ok=True)
        must = "be writable"
        tempfile.TemporaryFile(dir=folder).close()
    except BaseException as error:
        remove_empty(made)
        if not isinstance(error, OSError):
            raise
        raise DataError(f"{shown} must {must}, not: {reason(error)}.") from error
    return made


def entries(folder: Path) -> list[Path]:
    """What is in a folder, without what is just being made there."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(PART)]


def inside(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or something in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def spelled(path: Path, other: Path) -> str:
    """The other name, where a place has two."""
    return "" if str(path) == str(other) else f" as {other}"
