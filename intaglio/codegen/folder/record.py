"""What was found of a build, kept in its folder: by which command, of which version, and when.

The commands write records; the page about the build reads them. One of a build that stood in the
folder before, or of another version of it, is not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from intaglio.codegen.folder.manifest import BITSTREAM, MANIFEST, RECORDS
from intaglio.errors import IntaglioError
from intaglio.system.disk import write_text

NEEDED = {"build", "when", "version", "command", "result"}


@dataclass(frozen=True)
class Record:
    """A result as JSON, with the command that found it, the version of intaglio and the time (UTC,
    to the second)."""

    when: str
    version: str
    command: str
    result: Mapping[str, Any]


def keep(folder: Path, name: str, result: Mapping[str, Any], *, command: str, version: str) -> None:
    """Write one; what a disk refuses does not undo what was found. That of a bitstream lies with
    it."""
    place = folder / BITSTREAM if name == BITSTREAM else folder / RECORDS
    if name == BITSTREAM and not place.is_dir():
        return
    with suppress(IntaglioError, OSError):
        record = {
            "build": digest(folder),
            "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "version": version,
            "command": command,
            "result": dict(result),
        }
        write_text(place / f"{name}.json", json.dumps(record, indent=1) + "\n")


def kept(folder: Path) -> dict[str, Record]:
    """Those of the build that stands there now, by name; others and damaged ones are left out."""
    found = {}
    for path in sorted(
        [*(folder / RECORDS).glob("*.json"), folder / BITSTREAM / f"{BITSTREAM}.json"]
    ):
        with suppress(OSError, ValueError, TypeError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if set(record) >= NEEDED and record["build"] == digest(folder):
                found[path.stem] = Record(
                    str(record["when"]), str(record["version"]), str(record["command"]),
                    dict(record["result"]),
                )  # fmt: skip
    return found


def digest(folder: Path) -> str:
    """What stands for a build: that of its manifest, which has those of all its files."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
