"""What each part of DetPTQ's loss is worth: python benchmarks/quant/odol.py [NAME] [options].

AP of W4A4 Programs whose p were chosen by variants of `OdolTerms`, over disjoint draws of
calibration scenes; prints a table, which `quant.py` puts into docs/results.md. Finished cells are
lines of odol-cells.jsonl in the results folder and are not run again, so that a stopped run goes on
where it was, inside a search too; `--report` prints the table of what there is.
"""

import sys
from collections.abc import Sequence

from quant_cells import Cell
from quant_page import ABSENT, mean_std, points, whole
from quant_rows import drawn
from quant_study import Drawn, Study, main

from intaglio.errors import IntaglioError
from intaglio.quant import QuantConfig
from intaglio.quant.search.odol import OdolTerms

NOWHERE = 1e-12  # a score below that of any candidate

TERMS = {
    "every term, foreground 0.05": OdolTerms(),
    "class only": OdolTerms(by_box=0.0, by_centre=0.0),
    "box only": OdolTerms(by_class=0.0, by_centre=0.0),
    "without centre-ness": OdolTerms(by_centre=0.0),
    "foreground 0.01": OdolTerms(foreground=0.01),
    "foreground 0.2": OdolTerms(foreground=0.2),
    "every candidate": OdolTerms(foreground=NOWHERE),
}


def values(own: Drawn, first: Drawn) -> Sequence[str]:
    """A row's columns; the differences are means over the draws that both have."""
    row = drawn(own)
    pairs = [(cell, first[draw]) for draw, cell in own.items() if draw in first]
    beside = steps = ABSENT
    if pairs and own != first:
        beside = f"{sum(a.ap - b.ap for a, b in pairs) / len(pairs):+.4f}"
        if all(a.chosen for a, _ in pairs):
            steps = f"{sum(changed(a, b) for a, b in pairs) / len(pairs):.0%}"
    return [
        mean_std(row), points(row.mean("ap50")), points(row.mean("ap75")), str(len(own)),
        beside, steps, whole(row.mean("forwards")),
    ]  # fmt: skip


def changed(a: Cell, b: Cell) -> float:
    """Of the steps of two searches those with different p, 0..1."""
    differ = [tuple(x) != tuple(y) for x, y in zip(a.chosen, b.chosen, strict=True)]
    return sum(differ) / len(differ)


STUDY = Study(
    name="odol",
    title="What ODOL is made of",
    words="`fcos-nano` at W4A4, with p chosen by other terms; the differences are from the first"
    " row, on the same draws, in AP and in the share of steps.",
    variants={
        **{name: QuantConfig(method="detptq", odol=terms) for name, terms in TERMS.items()},
        "p = 2.4 everywhere": QuantConfig(method="lp"),
    },
    images=1000,
    head=("ODOL", "AP", "AP50", "AP75", "draws", "AP beside the first", "other p", "forwards"),
    values=values,
)


if __name__ == "__main__":
    try:
        main(STUDY, __doc__)
    except IntaglioError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
