"""Files appear whole or not at all, and a path that cannot be written is one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from intaglio.errors import DataError


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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def reason(error: OSError) -> str:
    """What the system says, without the path."""
    return error.strerror or "there is no such folder"
