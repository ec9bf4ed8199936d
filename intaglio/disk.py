"""Files appear whole or not at all, and a path that cannot be written is one sentence."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`, which takes its place when the block succeeds.

    Nothing is left behind otherwise; an OSError becomes a DataError.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error
    finally:
        part.unlink(missing_ok=True)


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
    if path.exists() and not (path.is_dir() and (ours(path) or not any(path.iterdir()))):
        raise error(
            f"{path} must be a new folder or {kind}, not something else; choose another or remove"
            " it."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as cause:
        raise error(f"{path} must be writable, not: {reason(cause)}.") from cause
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
    except OSError as cause:
        raise error(f"{path} must be writable, not: {reason(cause)}.") from cause
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def reason(error: OSError) -> str:
    """What the system says, without the path."""
    return error.strerror or "there is no such folder"
