"""What the commands share: the application object, options, progress, JSON."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from intaglio.errors import DataError
from intaglio.system.disk import write_text

ORDER = (
    "scenes", "train", "quantize", "import", "info", "run", "eval", "compare", "diverge", "trace",
    "export", "build", "verify", "bitstream", "report", "demo",
)  # fmt: skip


class Pipeline(TyperGroup):
    """Commands in the order in which one needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, as `--help` shows them."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="intaglio",
    cls=Pipeline,
    help="A torch detector, cut into integers, then into hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console(highlight=False, soft_wrap=True)

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")
]
ResizeOption = Annotated[bool, typer.Option("--resize", help="Letterbox other sizes.")]


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write `value` whole or not at all; nothing without a path."""
    if path is None:
        return
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, on a terminal only; yields a function of (done, total)."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`96x128` as (H, W)."""
    if text is None:
        return None
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise DataError(f"--size must be HxW, like 96x128, not {text!r}.")
    return int(height), int(width)
