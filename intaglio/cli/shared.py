"""What the commands share: the application object, options, progress, JSON."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from intaglio.cli.verb import Verb
from intaglio.errors import DataError
from intaglio.system.disk import write_text

if TYPE_CHECKING:
    from intaglio.detect.coco import CocoData

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
    context_settings={"help_option_names": ["-h", "--help"]},
)
F = TypeVar("F", bound=Callable[..., Any])
console = Console(highlight=False, soft_wrap=True)


def command(name: str | None = None) -> Callable[[F], F]:
    """Adds a function to the application, under its own name or another."""
    return app.command(name, cls=Verb)


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


def read_coco(data: Path, images: Sequence[Path]) -> "CocoData":
    """A COCO file and the folder of its images; a large one takes half a minute."""
    from intaglio.detect.coco import CocoData

    if len(images) != 1:
        raise DataError(
            f"--images must be one folder where --data names the images in it, not {len(images)};"
            " leave one out, or --data."
        )
    with console.status(f"reading {data}"):
        return CocoData(data, images[0])


def image_sources(images: Sequence[Path] | None, limit: int | None) -> list[Path]:
    """The files that --images and --limit name: the first ones, or none."""
    from intaglio.detect.images import image_files

    check_limit(limit)
    return image_files(images)[:limit] if images else []


def check_limit(limit: int | None) -> None:
    """Raises DataError where no image would be left."""
    if limit is not None and limit < 1:
        raise DataError(f"--limit must be at least 1, not {limit}.")
