"""How a .tflite file is known, without the packages that read it."""

from __future__ import annotations

from pathlib import Path

MAGIC = b"TFL3"  # names the kind of flatbuffer, behind the place of its root


def is_tflite(path: Path) -> bool:
    """Whether a file says that it is one."""
    with path.open("rb") as file:
        return file.read(8)[4:] == MAGIC
