"""Finished cells as rows: mean and spread over draws, and the best fixed p in hindsight."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from quant_cells import FLOAT, Cell, current
from quant_methods import BEST_FIXED, FIXED, PAGE_ORDER


@dataclass(frozen=True)
class Row:
    """All draws of a method at a width. `seconds`, `forwards` and `ap_std` (n - 1) are None where
    they do not exist; `note` is for the page. `cells` are in the order of the draws."""

    detector: str
    method: str
    wbits: int
    abits: int
    cells: tuple[Cell, ...]
    note: str = ""

    @property
    def ap(self) -> float:
        """Mean AP."""
        return fmean(c.ap for c in self.cells)

    @property
    def std(self) -> float | None:
        """Spread of AP over the draws."""
        return stdev(c.ap for c in self.cells) if len(self.cells) > 1 else None

    def mean(self, name: str) -> float | None:
        """Mean of a cell's field, None where a cell lacks it."""
        values = [getattr(c, name) for c in self.cells]
        return None if None in values else fmean(values)

    def to_json(self) -> dict[str, Any]:
        """As in quant.json."""
        return {
            "detector": self.detector,
            "method": self.method,
            "wbits": self.wbits,
            "abits": self.abits,
            "ap_mean": self.ap,
            "ap_std": self.std,
            "draws": len(self.cells),
            "images": self.cells[0].task.images,
            "seconds": self.mean("seconds"),
            "forwards": self.mean("forwards"),
        }


def drawn(cells: Mapping[int, Cell]) -> Row:
    """The row of some cells by draw, at least one."""
    ordered = tuple(cells[draw] for draw in sorted(cells))
    task = ordered[0].task
    return Row(task.detector, task.method, task.wbits, task.abits, ordered)


@dataclass(frozen=True)
class Results:
    """`real` is {detector: float cell}; rows are in the page's order."""

    real: Mapping[str, Cell] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    ablation: tuple[Row, ...] = ()

    @property
    def detectors(self) -> list[str]:
        """Those that have anything, by name."""
        rows = [*self.rows, *self.ablation]
        return sorted({*self.real, *(row.detector for row in rows)})

    def row(self, detector: str, method: str, wbits: int, abits: int) -> Row | None:
        """One row, if there is one."""
        wanted = (detector, method, wbits, abits)
        found = (r for r in self.rows if (r.detector, r.method, r.wbits, r.abits) == wanted)
        return next(found, None)

    def methods(self) -> list[str]:
        """Every method there could be, and those beside them that there are."""
        return [*PAGE_ORDER, *sorted({r.method for r in self.rows} - set(PAGE_ORDER))]

    def search(self) -> dict[str, Row]:
        """The rows that tell the search's cost: DetPTQ at W4A4."""
        found = {name: self.row(name, "detptq", 4, 4) for name in self.detectors}
        return {name: row for name, row in found.items() if row is not None}

    def to_json(self) -> dict[str, Any]:
        """quant.json."""
        names = ("forwards", "naive_forwards")
        return {
            "float": {name: cell.ap for name, cell in self.real.items()},
            "rows": [row.to_json() for row in self.rows],
            "search": {
                name: {key: row.mean(key) for key in names} for name, row in self.search().items()
            },
            "ablation": [row.to_json() for row in self.ablation],
        }


def results(cells: Iterable[Cell], images: Mapping[str, int]) -> Results:
    """Of those cells that were evaluated on `images` {detector: count} scenes."""
    cells = [c for c in cells if c.task.images == images.get(c.task.detector)]
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in current(cells):
        groups.setdefault(cell.task.group, []).append(cell)
    rows: list[Row] = []
    ablation: list[Row] = []
    real: dict[str, Cell] = {}
    for group in groups.values():
        task = group[0].task
        if task.method == FLOAT:
            real[task.detector] = group[-1]
            continue
        row = drawn({cell.task.draw: cell for cell in group})
        (ablation if task.ablation else rows).append(row)
    rows += best_fixed(rows)
    return Results(dict(sorted(real.items())), arranged(rows), arranged(ablation))


def best_fixed(rows: Sequence[Row]) -> list[Row]:
    """Of each detector and width the fixed p with the highest mean AP, where every p was measured
    on the same draws."""
    found = []
    for detector, wbits, abits in sorted({(r.detector, r.wbits, r.abits) for r in rows}):
        tried = [r for r in rows if (r.detector, r.wbits, r.abits) == (detector, wbits, abits)]
        tried = [r for r in tried if r.method in FIXED]
        draws = {tuple(c.task.draw for c in r.cells) for r in tried}
        if len(tried) == len(FIXED) and len(draws) == 1:
            best = max(tried, key=lambda row: row.ap)
            found.append(replace(best, method=BEST_FIXED, note=best.method))
    return found


def arranged(rows: Iterable[Row]) -> tuple[Row, ...]:
    """By detector, widths from wide to narrow, and method in the page's order."""

    def place(row: Row) -> tuple[object, ...]:
        known = row.method in PAGE_ORDER
        index = PAGE_ORDER.index(row.method) if known else len(PAGE_ORDER)
        return row.detector, -row.wbits - row.abits, -row.wbits, index, row.method

    return tuple(sorted(rows, key=place))
