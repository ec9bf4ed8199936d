"""What a search has chosen so far, in a small file, so that a killed search can go on."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError
from intaglio.quant.capture.graph import FloatGraph
from intaglio.system.disk import write_text
from intaglio.system.places import FORCE


class Journal:
    """Entries in order, each a JSON object, under a `key` that says which search they are of.

    Without a path nothing is kept. Entries of another search are dropped by `force` alone. Raises
    DataError where the file is of another search, is not a journal or cannot be written.
    """

    def __init__(self, path: Path | None, key: str, *, force: bool = False) -> None:
        self.path = path
        self.key = key
        self.entries: list[dict[str, Any]] = []
        if path is not None and path.exists():
            with suppress(*[DataError] * force):
                self.entries = self.read(path)

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The entries of this search in a file."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            key, entries = found["key"], list(found["entries"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} must be the state of an interrupted search, but reading it failed:"
                f" {error}; remove it to start anew."
            ) from error
        if key != self.key:
            raise DataError(
                f"{path} must be the state of this search, not of another that was interrupted;"
                f" finish that one with its own settings, choose another place, or give {FORCE}."
            )
        return entries

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; the file is replaced whole."""
        self.entries.append(entry)
        if self.path is None:
            return
        write_text(self.path, json.dumps({"key": self.key, "entries": self.entries}))

    def remove(self) -> None:
        """Delete the file: the search is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def digest(graph: FloatGraph, images: NDArray[np.uint8], *settings: object) -> str:
    """A key that changes with the network, the images and the settings."""
    found = hashlib.sha256(repr((settings, images.shape)).encode())
    found.update(np.ascontiguousarray(images).tobytes())
    for node in graph.nodes:
        found.update(repr((node.output, node.origin, node.shape, node.inputs)).encode())
        for name in ("scale", "shift", "lo", "hi"):
            found.update(np.asarray(getattr(node, name, 0.0)).tobytes())
    for weight in graph.weights.values():
        found.update(weight.tobytes())
    return found.hexdigest()
