"""A bitstream onto a board, by the first of its loaders that is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from intaglio.codegen.area.boards import Board
from intaglio.errors import ToolError
from intaglio.system.processes import environment


def load_board(board: Board, file: Path) -> str:
    """Load a bitstream; returns the command that did. Its own words go where ours do.

    Raises ToolError, with the command to give by hand, where no loader is installed or one fails.
    """
    commands = board.loading(file)
    found = next((c for c in commands if shutil.which(c[0])), None)
    if found is None:
        names = " or ".join(command[0] for command in commands)
        raise ToolError(
            f"{names} must be installed to load the {board.title}, not neither; install one, then"
            f" {how_to_load(board, file)}"
        )
    done = subprocess.run(found, env=environment(), check=False)
    if done.returncode:
        raise ToolError(
            f"{found[0]} must load the {board.title}, but ended with {done.returncode}; plug the"
            f" board in, and give the command again: {' '.join(found)}"
        )
    return " ".join(found)


def how_to_load(board: Board, file: Path) -> str:
    """The commands of which one loads the board."""
    first, *others = (" ".join(command) for command in board.loading(file))
    return f"{first} (or: {', '.join(others)})" if others else first
