"""AP with equalisation and mixed precision: python benchmarks/quant/companions.py [NAME] [options].

AP of the integer outputs on held-out scenes over disjoint draws of calibration scenes, and the
averages that the Programs come to; prints a table, which `quant.py` puts into docs/results.md.
Finished cells are lines of companions-cells.jsonl in the results folder and are not run again;
`--report` prints the table of what there is.
"""

import sys
from collections.abc import Sequence
from statistics import fmean
from typing import get_args

from quant_page import mean_std
from quant_rows import drawn
from quant_study import Drawn, Study, main

from intaglio.errors import IntaglioError
from intaglio.quant import Budget, QuantConfig
from intaglio.quant.settings.budget import BudgetKind


def values(own: Drawn, first: Drawn) -> Sequence[str]:
    """A row's columns."""
    averages = (fmean(cell.spent[kind] for cell in own.values()) for kind in get_args(BudgetKind))
    return [mean_std(drawn(own)), str(len(own)), *(f"{value:.3f}" for value in averages)]


STUDY = Study(
    name="companions",
    title="Companions: equalisation and mixed precision",
    words="`fcos-nano` with ranges of p = 2.4, on the first 300 held-out scenes. Weights are"
    " compensated and means restored where a row does not say otherwise.",
    variants={
        "W4A4": QuantConfig(method="lp"),
        "W4A4 `--equalize`": QuantConfig(equalize=True),
        "W4A4 `--nearest --keep-bias`": QuantConfig(compensate=False, correct_bias=False),
        "W4A4 `--nearest`": QuantConfig(compensate=False),
        "W4A4 `--keep-bias`": QuantConfig(correct_bias=False),
        "W4A4 `--per-tensor`": QuantConfig(per_channel=False),
        "W4A4 `--per-tensor --equalize`": QuantConfig(per_channel=False, equalize=True),
        "W8A8 `--per-tensor`": QuantConfig(wbits=8, abits=8, per_channel=False),
        "W8A8 `--per-tensor --equalize`": QuantConfig(
            wbits=8, abits=8, per_channel=False, equalize=True
        ),
        "`--budget weight-bits=4`": QuantConfig(budgets=(Budget.parse("weight-bits=4"),)),
        "`--budget bops=19.31`": QuantConfig(budgets=(Budget.parse("bops=19.31"),)),
    },
    images=300,
    head=("", "AP", "draws", "bits of a weight", "bit operations"),
    values=values,
)


if __name__ == "__main__":
    try:
        main(STUDY, __doc__)
    except IntaglioError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
