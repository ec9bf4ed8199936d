"""Files and folders appear whole or not at all, and a path that cannot be written is one sentence.

A link is followed, and stays. What is no file, a pipe or a device, gets the bytes; so does what the
process has open: `-` and `/dev/stdout` are the standard output. What is replaced keeps its mode and
its owner. A signal waits while something takes its place: see `interrupts`.
"""

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from intaglio.errors import DataError, IntaglioError
from intaglio.system.interrupts import held, released

STDOUT = "-"
OPEN = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
NAMED = {STDOUT: 1, "/dev/stdout": 1, "/dev/stderr": 2}
PART = ".new."  # what the name of something begins with that is still being made


def make_folder(path: Path) -> Path:
    """`path` as an existing folder. Raises DataError where a file is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{path} must be a folder that can be made, not: {reason(error)}."
        ) from error
    return path


def empty_folder(path: Path) -> Path:
    """`path` as an existing, empty folder in which can be written. Raises DataError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
        for old in path.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink()
    except OSError as error:
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error
    return path


def without_files(folder: Path, names: Iterable[str]) -> Path:
    """`folder` as an existing folder in which can be written, without the files of these names;
    what else is there stays. Raises DataError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        for name in names:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{folder} must be writable, not: {reason(error)}.") from error
    return folder


def descriptor(path: Path) -> int | None:
    """The open file of this process that a path names: 1 for `-` and `/dev/stdout`."""
    found = OPEN.fullmatch(str(path))
    return int(found[1]) if found else NAMED.get(str(path))


def is_stream(path: Path) -> bool:
    """Whether bytes go to what is there, an open file, a pipe or a device, and replace nothing."""
    if descriptor(path) is not None:
        return True
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`, which takes its place when the block succeeds.

    Folders above it are made. Nothing is left behind otherwise; an OSError becomes a DataError.
    """
    try:
        if is_stream(path):
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder) / (path.name if descriptor(path) is None else "part")
                yield part
                send(path, part.read_bytes())
            return
        with held(), beside(followed(path)) as (target, part):
            with released():
                yield part
            if target.exists():
                keep_owner(target, part)
            os.replace(part, target)
    except BrokenPipeError as error:
        if descriptor(path) == 1:  # as with anything else that is printed
            raise
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error
    except OSError as error:
        raise DataError(f"{path} must be writable, not: {reason(error)}.") from error


def followed(path: Path) -> Path:
    """What a path names, links followed, there or not. Raises OSError for links in a circle."""
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


@contextmanager
def beside(target: Path) -> Iterator[tuple[Path, Path]]:
    """The target, in a folder that is made, and a name beside it. What has it is removed."""
    name = f".{target.stem[:99]}.{token_hex(4)}.part{target.suffix}"  # threads may do the same
    part, above = target.with_name(name), missing(target.parent)
    try:
        make_folder(target.parent)
        yield target, part
    finally:
        with suppress(OSError):  # even looking for it is refused where all is read-only
            part.unlink(missing_ok=True)
        remove_empty(above)


def send(path: Path, data: bytes) -> None:
    """Write to what a path names and is there already."""
    number = descriptor(path)
    if number == 1:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif number is None:
        path.write_bytes(data)
    else:
        with open(os.dup(number), "wb") as file:
            file.write(data)


def keep_owner(old: Path, new: Path) -> None:
    """Give a file that replaces another its mode and, where that is allowed, its owner."""
    found = old.stat()
    with suppress(OSError):  # not every file system has them, and not everybody may give files away
        os.chmod(new, stat.S_IMODE(found.st_mode) & 0o777)
        os.chown(new, found.st_uid, found.st_gid)


@contextmanager
def whole_folder(path: Path, error: type[IntaglioError] = DataError) -> Iterator[Path]:
    """Yields an empty folder that becomes `path` when the block succeeds; of one that is there
    already the entries are replaced, so that it may be a link or the folder one works in.

    Nothing is left behind otherwise; an OSError becomes an `error`.
    """
    part: Path | None = None
    try:
        target = followed(path)
        above = [folder for folder in missing(target) if folder != target]
        with held():
            try:
                home = target if target.is_dir() else target.parent
                home.mkdir(parents=True, exist_ok=True)
                part = Path(tempfile.mkdtemp(prefix=PART, dir=home))
                (part / "new").mkdir()
                with released():
                    yield part / "new"
                if target.is_dir():
                    exchange(target, part)
                else:
                    os.rename(part / "new", target)
            finally:
                if part is not None:
                    shutil.rmtree(part, ignore_errors=True)
                remove_empty(above)  # the innermost is not empty where all went well
    except OSError as cause:
        raise error(f"{path} must be writable, not: {reason(cause)}.") from cause


def exchange(folder: Path, part: Path) -> None:
    """Move all that is in `folder` to part/old, and what is in part/new there; or nothing."""
    (part / "old").mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for source, goal in ((folder, part / "old"), (part / "new", folder)):
            for entry in list(source.iterdir()):
                if entry != part:
                    entry.rename(goal / entry.name)
                    moved.append((goal / entry.name, entry))
    except BaseException:
        for now, before in reversed(moved):
            now.rename(before)
        raise


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
