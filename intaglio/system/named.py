"""What a user calls `package.module:name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from intaglio.errors import ModelError


def named(reference: str, what: str) -> Any:
    """The attribute of a module, looked up from the current folder too.

    Raises ModelError, naming `what` asks for it, where there is none.
    """
    module, _, name = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's own module: a syntax error is one sentence too
        raise ModelError(
            f"{what} {reference!r} must be importable, but: {type(error).__name__}: {error}."
        ) from error
