"""What the commands share: the application object, options, progress, JSON."""

import json
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar

import typer

from intaglio import __version__
from intaglio.cli.verb import Pipeline, Verb
from intaglio.errors import DataError
from intaglio.system.disk import is_stream, write_text
from intaglio.system.steps import RECORD, Steps, is_record

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

    from intaglio.detect.coco import CocoData
    from intaglio.models import Reading
    from intaglio.program import Program

app = typer.Typer(
    name="intaglio",
    cls=Pipeline,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
F = TypeVar("F", bound=Callable[..., Any])
CONTROL = dict.fromkeys((7, 8, 11, 12, 13))  # letters that a terminal acts on, as rich has them
ENDING = ExitStack()  # what `main` does when a command has ended, however it has
LARGEST = 1_000_000  # of a mean or a deviation, where pixels are 0 to 1
LONGEST = 65_535  # pixels of a side
MOST_CHECKED = 10_000  # images
UNBOUNDED = 100_000  # columns of a file or pipe
SHOWN = 6  # operations that a line about a cut names
FOLDED = 4  # columns that a name keeps on a narrow terminal


class Lines:
    """What commands print, line by line as it is, without rich, whose import takes as long as a
    small network's pictures. `stderr`: on the standard error."""

    stderr = False

    @property
    def file(self) -> TextIO:
        """Where it goes."""
        return sys.stderr if self.stderr else sys.stdout

    def print(self, text: str) -> None:
        """Names of files and layers are no markup, whatever brackets and colons stand in them."""
        print(text.translate(CONTROL), file=self.file)


console = Lines()


def terminal() -> "Console":
    """The same place for tables, which fit themselves to it."""
    from rich.console import Console

    return Console(file=console.file, highlight=False, soft_wrap=True, markup=False, emoji=False)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """A torch detector, cut into integers, then into hardware."""
    if version:
        typer.echo(f"intaglio {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def command(name: str | None = None) -> Callable[[F], F]:
    """Adds a function to the application, under its own name or another."""
    return app.command(name, cls=Verb)


def prepare_tables() -> None:
    """Import what `show` needs, which takes long, while other processes work."""
    for part in ("cells", "console", "table", "text"):
        import_module(f"rich.{part}")


def show(
    title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]], *,
    left: Sequence[str], names: Sequence[str],
) -> None:  # fmt: skip
    """Print a table, no word of it cut. What is `left` stands so, numbers right. On a terminal the
    `names` are folded; elsewhere a row is one line."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title and Text(title), title_justify="left")
    filled = list(rows)
    for n, column in enumerate(columns):
        least = max(map(cell_len, [column, *(row[n] for row in filled)]))
        least = min(least, FOLDED) if column in names else least
        side: JustifyMethod = "left" if column in left else "right"
        made.add_column(column, justify=side, overflow="fold", min_width=least)
    for row in filled:
        made.add_row(*row)
    to = terminal()
    if not to.is_terminal:
        to = Console(file=to.file, width=UNBOUNDED, markup=False, emoji=False, highlight=False)
    to.print(made)


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write `value` whole or not at all; nothing without a path."""
    if path is None:
        return
    write_text(path, json.dumps(value, indent=2) + "\n")


def record(ctx: typer.Context, model: Any) -> dict[str, Any]:
    """What a result was made by: version, command, model with its digest, every setting."""
    from intaglio.program import Program

    if isinstance(model, Program):
        digest = model.digest()
    else:
        from intaglio.detect.resolve import digest_of

        digest = digest_of(model)
    settings = {k: plain(v) for k, v in ctx.params.items() if k not in ("model", "json_file")}
    return {
        "intaglio": __version__, "command": ctx.info_name, "model": str(ctx.params["model"]),
        "digest": digest, "settings": settings,
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path | Enum) else value


def say_cut(program: "Program") -> None:
    """Say what of a network is not in its Program, which ends before its decoding."""
    say_end(program.meta.get("cut", ()), [tensor.name for tensor in program.outputs])


def say_end(cut: Sequence[str], outputs: Iterable[str]) -> None:
    """Say what is cut off, if anything is, and where a network ends instead."""
    if cut:
        more = f" and {len(cut) - SHOWN} more" if len(cut) > SHOWN else ""
        console.print(f"cut off, with no layer behind: {', '.join(cut[:SHOWN])}{more}")
        console.print(f"outputs: {', '.join(outputs)}")


def say_notes(model: object) -> None:
    """Say what was done to a network that was read from a file."""
    for note in getattr(model, "notes", ()):
        console.print(note)


def step_log(*after: str) -> Steps:
    """The steps of this command, said on the standard error from here to its end, on a terminal and
    in a file alike. `after`: those that the command itself adds to the work's."""
    stream = sys.stderr  # for torch's own words are kept from there while it works

    def say(line: str) -> None:
        with suppress(OSError, ValueError):  # nobody listens any more
            print(line, file=stream, flush=True)

    return ENDING.enter_context(Steps(say, after=after))


def keep_record(folder: Path, name: str, result: dict[str, Any]) -> None:
    """What this command found of a build, for the page about it."""
    from intaglio.codegen.folder.record import keep

    keep(folder, name, result, command=typed(), version=__version__)


def typed() -> str:
    """This command as it was typed."""
    return shlex.join(["intaglio", *sys.argv[1:]])


def made_by() -> str:
    """Version, command and time, in words."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"Made by intaglio {__version__}, {typed()}, {now} UTC"


def write_steps(steps: Steps, output: Path) -> None:
    """NAME.steps.json beside the file that they made; not beside a pipe or a device, and not in the
    place of something else."""
    place = output.with_name(f"{output.name.removesuffix('.intaglio')}.{RECORD}")
    if not is_stream(output) and (not place.exists() or is_record(place)):
        steps.write(place)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`96x128` as (H, W)."""
    if text is None:
        return None
    height, cross, width = text.lower().partition("x")
    sides = [int(side) if side.isdecimal() else 0 for side in (height, width)]
    if not (cross and all(1 <= side <= LONGEST for side in sides)):
        raise DataError(f"--size must be HxW, like 96x128, of at most {LONGEST:,}, not {text!r}.")
    return sides[0], sides[1]


def numbers(option: str, text: str | None) -> list[float] | None:
    """`0.5,0.4,0.3` as floats."""
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(-LARGEST <= value <= LARGEST for value in found):
        raise DataError(
            f"{option} must be numbers like 0.5,0.4,0.3, of at most {LARGEST:,}, not {text!r}."
        )
    return found


def parse_names(text: str | None) -> tuple[str, ...]:
    """`a,b` as names."""
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    if not all(names):
        raise DataError(f"--outputs must be names like head.box,head.score, not {text!r}.")
    return names


def reading(size: str | None, mean: str | None, std: str | None, outputs: str | None) -> "Reading":
    """How a float network is read, as the options say."""
    from intaglio.models import Reading

    return Reading(
        parse_size(size), numbers("--mean", mean), numbers("--std", std), parse_names(outputs)
    )


def read_coco(data: Path, images: Sequence[Path]) -> "CocoData":
    """A COCO file and the folder of its images; a large one takes half a minute."""
    from intaglio.detect.coco import CocoData

    if len(images) != 1:
        raise DataError(
            f"--images must be one folder where --data names the images in it, not {len(images)};"
            " leave one out, or --data."
        )
    return CocoData(data, images[0])


def image_sources(images: Sequence[Path] | None, limit: int | None) -> list[Path]:
    """The files that --images and --limit name: the first ones, or none."""
    from intaglio.detect.images import image_files

    check_limit(limit)
    return image_files(images)[:limit] if images else []


def check_limit(limit: int | None, option: str = "--limit") -> None:
    """Raises DataError where no image would be left."""
    if limit is not None and limit < 1:
        raise DataError(f"{option} must be at least 1, not {limit}.")


def check_checked(count: int | None, least: int, remedy: str = "") -> None:
    """Of --check. Raises DataError where they are too few or more than anybody waits for."""
    if count is not None and not least <= count <= MOST_CHECKED:
        raise DataError(f"--check must be {least} to {MOST_CHECKED:,}, not {count:,}{remedy}.")


def check_threshold(threshold: float) -> None:
    """Raises DataError where no score can be such."""
    if not 0 <= threshold <= 1:
        raise DataError(f"--threshold must be 0 to 1, not {threshold}.")
