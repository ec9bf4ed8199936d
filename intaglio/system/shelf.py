"""What other programs made, kept between runs in the user's cache folder, under the digest of all
that went in: found there, it need not be made again.

A program is part of what goes in: by the file that is started, and by what it says of itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from intaglio.system.processes import environment, find_program, kept_folder

KEPT, UNUSED = (
    24,
    24 * 3600,
)  # what was used last stays, and so does what was within so many seconds


def shelf(name: str) -> Path | None:
    """The folder for things of one kind, there or not; None where nothing can be kept."""
    kept = kept_folder()
    return None if kept is None else kept / "intaglio" / name


def digest(parts: Iterable[bytes | str]) -> str:
    """Of all parts, each by itself: what ends one and begins the next counts."""
    found = hashlib.sha256()
    for part in parts:
        data = os.fsencode(part) if isinstance(part, str) else part
        found.update(f"{len(data)}\0".encode() + data)
    return found.hexdigest()[:24]


def identity(*command: str) -> str:
    """Of the program that a command starts: where it lies, when it was put there, and what it
    prints for that command, which asks for its version."""
    path = find_program(command[0])
    if path is None:
        return ""
    file = Path(path).resolve()
    about = file.stat()
    return said(str(file), about.st_size, about.st_mtime_ns, command[1:])


@cache
def said(path: str, size: int, made: int, arguments: tuple[str, ...]) -> str:
    """Asked once, unless the file has changed."""
    done = subprocess.run(
        [path, *arguments], capture_output=True, text=True, errors="replace", env=environment()
    )
    return f"{path} {size} {made} {done.stdout}{done.stderr}"


def used(folder: Path) -> None:
    """Something on a shelf was used now. What has not been for long goes, the oldest first."""
    with suppress(OSError):
        os.utime(folder)
        found = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in found[KEPT:]:
            if time.time() - old.stat().st_mtime > UNUSED:
                shutil.rmtree(old, ignore_errors=True)
