"""Files appear whole or not at all, and a path that cannot be written is one sentence."""

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from intaglio.errors import DataError, IntaglioError


def make_folder(path: Path) -> Path:
    """`path` as an existing folder. Raises DataError where a file is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{path} must be a folder that can be made, not: {reason(error)}."
        ) from error
    return path


def empty_folder(path: Path, pattern: str = "*") -> Path:
    """`path` as an existing folder in which can be written, without the files and folders of this
    pattern. Raises DataError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
        for old in path.glob(pattern):
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink()
    except OSError as error:
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`, which takes its place when the block succeeds.

    Folders above it are made. A link stays one, and the file that it names is replaced. What is no
    file (a pipe, a device) gets the bytes. Nothing is left behind otherwise; an OSError becomes a
    DataError.
    """
    above: list[Path] = []
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        if target.exists() and not target.is_file() and not target.is_dir():
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder) / path.name
                yield part
                target.write_bytes(part.read_bytes())
            return
        name = f".{target.stem[:99]}.{token_hex(4)}.part{target.suffix}"  # threads may do the same
        part = target.with_name(name)
        above = missing(target.parent)
        make_folder(target.parent)
        try:
            yield part
            os.replace(part, target)
        finally:
            with suppress(OSError):  # even looking for it is refused where all is read-only
                part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error
    finally:
        remove_empty(above)


@contextmanager
def whole_folder(
    path: Path,
    ours: Callable[[Path], bool],
    kind: str,
    error: type[IntaglioError] = DataError,
) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes its place when the block succeeds.

    It replaces an empty folder, or one that is `ours`, called `kind` in the refusal of anything
    else; that and an OSError become an `error`. Nothing is left behind otherwise.
    """
    above: list[Path] = []
    try:
        if path.exists() and not (path.is_dir() and (ours(path) or not any(path.iterdir()))):
            raise error(
                f"{path} must be a new folder or {kind}, not something else; choose another or"
                " remove it."
            )
        above = missing(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".new.", dir=path.parent))
        new, old = part / "new", part / "old"
        try:
            new.mkdir()
            yield new
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(new, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as cause:
        raise error(f"{path} must be writable, not: {reason(cause)}.") from cause
    finally:
        remove_empty(above)  # the innermost is not empty where all went well


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """Yields an empty folder, whose files take their places in `folder` when the block succeeds;
    others that are there already stay. Nothing is left behind otherwise; an OSError becomes a
    DataError."""
    made = missing(folder)
    try:
        make_folder(folder)
        part = Path(tempfile.mkdtemp(prefix=".new.", dir=folder))
        try:
            yield part
            for path in sorted(part.rglob("*")):  # a folder before what is in it
                place = folder / path.relative_to(part)
                if path.is_dir():
                    made += missing(place)
                    place.mkdir(exist_ok=True)
                else:
                    os.replace(path, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder} must be writable, not: {reason(error)}.") from error
    finally:
        remove_empty(made)


def missing(folder: Path) -> list[Path]:
    """The folder and those above it that are still to be made, innermost first."""
    found = []
    while not folder.exists() and folder != folder.parent:
        found.append(folder)
        folder = folder.parent
    return found


def remove_empty(folders: list[Path]) -> None:
    """Take back folders that were made for something that did not come about."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def user_cache() -> Path | None:
    """The user's cache folder, there or not; a user without an entry and without HOME has none."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return path if path.is_absolute() else None


def private_folder(*, make: bool) -> Path:
    """A temporary folder of this user's, the same for every process, where nobody else can have put
    anything; it must be there unless it is to `make`. Raises OSError."""
    folder = Path(tempfile.gettempdir()) / f"intaglio-{os.getuid()}"
    if make:
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o22:
        raise PermissionError(errno.EPERM, "somebody else may write there", str(folder))
    return folder


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing that compiled code prints inside reaches the standard output."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes whole."""
    with whole_file(path) as part:
        part.write_bytes(data)


def reason(error: OSError) -> str:
    """What the system says, without the path."""
    return error.strerror or str(error) or type(error).__name__
