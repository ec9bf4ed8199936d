"""What `quant.py` measures, one cell at a time, and the file that keeps the finished ones."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from intaglio.errors import DataError

FLOAT = "float"  # the method and, with 32 bits, the width of a network that is not quantised
FLOAT_BITS = 32


@dataclass(frozen=True)
class Task:
    """What one cell measures: AP of one Program on the first `images` held-out scenes.

    draw      which of the disjoint draws of calibration scenes, or which training.
    depends   what else the result follows from, as JSON values: the detector's weights (`model`),
              how many scenes calibrate it, the method's settings or the trained Program.
    ablation  a row of the ablation table, not of the results.
    """

    detector: str
    method: str
    wbits: int
    abits: int
    draw: int
    images: int
    depends: Mapping[str, Any]
    ablation: bool = False

    @property
    def key(self) -> str:
        """Equal for tasks that need not be done twice."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def group(self) -> tuple[object, ...]:
        """Equal for draws of the same thing."""
        return (
            self.detector, self.method, self.wbits, self.abits, self.images, self.ablation
        )  # fmt: skip

    @property
    def name(self) -> str:
        """For people."""
        if self.method == FLOAT:
            return f"{self.detector} {FLOAT}"
        return f"{self.detector} {width(self.wbits, self.abits)} {self.method} draw {self.draw}"


@dataclass(frozen=True)
class Cell:
    """A finished task.

    ap, ap50, ap75           of the integer outputs, 0..1, by pycocotools
    seconds, wall            of quantisation: processor time of all threads, and time that passed;
                             None where nothing was quantised here
    forwards                 full-network forwards of one image in a search, `naive_forwards` those
                             of the naive one; None without a search
    digest                   of the Program; "" for the float network
    odol                     mean ODOL at the search's start and end
    kept                     whether the search's choices were better than its start
    chosen                   [kind, name, p] of each step of a search, in the network's order
    spent                    averages of the Program, by kind of budget
    """

    task: Task
    ap: float
    ap50: float
    ap75: float
    seconds: float | None = None
    wall: float | None = None
    forwards: float | None = None
    naive_forwards: int | None = None
    digest: str = ""
    odol: tuple[float, float] | None = None
    kept: bool | None = None
    chosen: list[tuple[str, str, float]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One flat object."""
        found = asdict(self)
        return {**found.pop("task"), **found}


def from_json(found: Mapping[str, Any]) -> Cell:
    """The inverse of `to_json`. Raises TypeError where a field is missing or unknown."""
    names = {f.name for f in fields(Task)}
    task = Task(**{k: v for k, v in found.items() if k in names})
    return Cell(task, **{k: v for k, v in found.items() if k not in names})


def width(wbits: int, abits: int) -> str:
    """`W4A8`."""
    return f"W{wbits}A{abits}"


def read_cells(path: Path) -> list[Cell]:
    """The cells of a file in order; none where there is no file.

    A last line without its end was torn when the writer was killed: it is cut off the file. Raises
    DataError for any other line that is not a cell.
    """
    if not path.exists():
        return []
    whole, end, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole + end))
    cells = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            cells.append(from_json(json.loads(line)))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} must have one cell a line, not what line {number} holds ({error}); remove"
                " that line."
            ) from error
    return cells


def append_cell(path: Path, cell: Cell) -> None:
    """Add a line in one write, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(cell.to_json()) + "\n"
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())
        os.fsync(file.fileno())


def current(cells: Iterable[Cell]) -> list[Cell]:
    """Without those that were measured again, or of settings or weights that later ones replaced.

    Of each group the last cell's `depends` counts, and of each draw the last such cell; of each
    detector the last cell's weights.
    """
    cells = list(cells)
    model = {c.task.detector: c.task.depends["model"] for c in cells}
    last = {c.task.group: c.task for c in cells}
    found: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        task = cell.task
        trained = "program" in task.depends  # each training is a Program of its own
        if task.depends["model"] == model[task.detector] and (
            trained or task.depends == last[task.group].depends
        ):
            found[(*task.group, task.draw)] = cell
    return list(found.values())
