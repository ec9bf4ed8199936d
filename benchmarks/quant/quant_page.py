"""quant.json and the page of results, from finished cells. The page's words are here, its numbers
are not."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from quant_cells import Cell, width
from quant_methods import AQD, AQD_WIDTHS, BEST_FIXED, WIDTHS
from quant_rows import Results, Row, results

from intaglio.system.disk import make_folder, write_text

ABSENT = "\N{EN DASH}"
COMMAND = "python benchmarks/quant/quant.py"
TRAIN_COMMAND = "python benchmarks/quant/aqd.py; " + COMMAND + " --trained build/aqd"
HEADER = f"""# Results

`{COMMAND} --report` writes this page and its figures from the finished cells in
`benchmarks/results/quant-cells.jsonl`. `make bench-quant` measures the cells that the file lacks;
the command under a table measures those of that table, with `--out FOLDER` all of them anew.
{ABSENT} is what was not measured.

AP is COCO's (IoU 0.50:0.95) by pycocotools, of a Program's integer outputs in the simulator, on
generated scenes whose digits were never trained on: {{images}}. W4A8 has 4 bits for every
convolution's weights, heads and predictors included, and 8 for every tensor between layers; wider
are only the pixels and the stem's weights (8) and the final maps (16). In rows that end in `-sums8`
or `-mixed` tensors that only sums read have 8 bits as well: they go straight into the sum and are
never kept. In those that end in `-mixed` each layer has widths of its own, such that an image takes
no more bit operations than at W4A4 (`--budget bops=19.3`).

Disjoint draws of {{calibrated}} scenes of the training digits calibrate each method; ± is the
sample standard deviation over the draws. The methods differ in how ranges are chosen: all of them
compensate weights and restore means. `mse` and `lp2` are the same rule; `{BEST_FIXED}` is the `lp`
row with the highest mean, chosen in hindsight. Seconds are processor seconds of quantisation, all
threads together. Forwards are full-network forwards of one image in a search, by
multiply-accumulates; naive is every p in every step on every image.
"""


def write_results(
    cells: Iterable[Cell],
    images: Mapping[str, int],
    json_file: Path,
    page: Path,
    studies: Sequence[str] = (),
) -> None:
    """Write `json_file`, `page` and the page's figures beside it; `studies` are more parts."""
    from quant_plots import write_figures  # matplotlib is slow to import

    found = results(cells, images)
    make_folder(json_file.parent)
    make_folder(page.parent)
    write_text(json_file, json.dumps(found.to_json(), indent=1) + "\n")
    write_text(page, text(found, write_figures(found, page.parent), studies))


def text(found: Results, figures: Sequence[str], studies: Sequence[str] = ()) -> str:
    """The page, in Markdown."""
    parts = [header(found)]
    parts += [at_four_bits(found, name) for name in found.detectors]
    parts.append(search_cost(found))
    parts += [by_width(found, name) for name in found.detectors]
    parts += [aqd(found), ablation(found), *studies]
    parts += [f"![{name.removesuffix('.svg')}]({name})\n" for name in figures]
    return "\n".join(parts)


def header(found: Results) -> str:
    """The page's first words, with what was measured."""
    cells = [c for row in found.rows for c in row.cells]
    images = {name: cell.task.images for name, cell in found.real.items()}
    counts = {c.task.depends["calibrated"] for c in cells if "calibrated" in c.task.depends}
    return HEADER.format(
        images=" and ".join(f"{n:,} for `{name}`" for name, n in images.items()) or ABSENT,
        calibrated=" or ".join(map(str, sorted(counts))) or ABSENT,
    )


# --- tables ---------------------------------------------------------------------------------------


def at_four_bits(found: Results, detector: str) -> str:
    """W4A4 of a detector in full."""
    lines = [f"## `{detector}` at W4A4", ""]
    real = found.real.get(detector)
    if real is not None:
        lines += [
            f"Float: AP {points(real.ap)}, AP50 {points(real.ap50)}, AP75 {points(real.ap75)}.", ""
        ]  # fmt: skip
    head = ("method", "AP", "AP50", "AP75", "draws", "seconds", "forwards", "naive")
    body = []
    for method in found.methods():
        row = found.row(detector, method, 4, 4)
        cells = full(row) if row else [ABSENT] * 7
        body.append([label(method, row), *cells])
    return page_part(lines, head, body, f"{COMMAND} --detector {detector} --width W4A4")


def full(row: Row) -> list[str]:
    """The cells of a row of the W4A4 table."""
    return [
        mean_std(row),
        points(row.mean("ap50")),
        points(row.mean("ap75")),
        str(len(row.cells)),
        whole(row.mean("seconds")),
        whole(row.mean("forwards")),
        whole(row.mean("naive_forwards")),
    ]


def search_cost(found: Results) -> str:
    """What the search of DetPTQ takes and gives."""
    head = ("detector", "seconds", "forwards", "naive", "times fewer", "ODOL before", "after")
    body = []
    for detector, row in found.search().items():
        forwards, naive = row.mean("forwards"), row.mean("naive_forwards")
        odol = [c.odol for c in row.cells if c.odol]
        before, after = (sum(o[i] for o in odol) / len(odol) if odol else None for i in (0, 1))
        fewer = f"{naive / forwards:.1f}" if naive and forwards else ABSENT
        body.append(
            [f"`{detector}`", whole(row.mean("seconds")), whole(forwards), whole(naive), fewer]
            + [ABSENT if value is None else f"{value:.4f}" for value in (before, after)]
        )
    lines = ["## What DetPTQ's search takes", "", "At W4A4; means over the draws.", ""]
    return page_part(lines, head, body, f"{COMMAND} --method detptq --width W4A4")


def by_width(found: Results, detector: str) -> str:
    """AP of every method at every width."""
    widths = sorted(WIDTHS, key=lambda w: (-w[0] - w[1], -w[0]))
    body = []
    for method in found.methods():
        rows = [found.row(detector, method, *w) for w in widths]
        p = method == BEST_FIXED
        body.append(
            [f"`{method}`"]
            + [ABSENT if r is None else mean_std(r) + (f" ({r.note})" if p else "") for r in rows]
        )
    real = found.real.get(detector)
    lines = [f"## `{detector}`: AP by width", ""]
    lines += [f"Float: {points(real.ap)}.", ""] if real else []
    head = ("method", *(width(*w) for w in widths))
    return page_part(lines, head, body, f"{COMMAND} --detector {detector}")


def aqd(found: Results) -> str:
    """The trained Programs beside float."""
    head = ("detector", "float", *(width(*w) for w in AQD_WIDTHS))
    body = []
    for name in found.detectors:
        rows = [found.row(name, AQD, *w) for w in AQD_WIDTHS]
        real = found.real.get(name)
        cells = [ABSENT if row is None else mean_std(row) for row in rows]
        body.append([f"`{name}`", points(real.ap if real else None), *cells])
    lines = [
        "## AQD",
        "",
        "AP of Programs whose parameters were trained at their width, on 12,000 scenes with labels."
        " At W3A3 and W2A2 tensors that only sums read have 8 bits; all else is as narrow as its"
        " column says.",
        "",
    ]
    return page_part(lines, head, body, TRAIN_COMMAND)


def ablation(found: Results) -> str:
    """Trainings that differ in one thing."""
    head = ("detector", "width", "variant", "AP", "AP50", "AP75")
    body = [
        [f"`{row.detector}`", width(row.wbits, row.abits), row.method, mean_std(row)]
        + [points(row.mean(name)) for name in ("ap50", "ap75")]
        for row in found.ablation
    ]
    lines = [
        "## AQD: one thing changed",
        "",
        "Short trainings, alike but for one thing; all start from the float detector with fresh"
        " norms in its heads.",
        "",
    ]
    return page_part(lines, head, body, TRAIN_COMMAND)


def page_part(
    lines: Sequence[str], head: Sequence[str], body: Sequence[Sequence[str]], command: str
) -> str:
    """A heading, a table, and the command that measures it."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    rows = [head, rule, *(body or [[ABSENT] * len(head)])]
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *table, "", f"`{command}`", ""])


# --- numbers --------------------------------------------------------------------------------------


def label(method: str, row: Row | None) -> str:
    """A method's name, and which p was the best."""
    return f"`{method}` ({row.note})" if row and row.note else f"`{method}`"


def points(value: float | None) -> str:
    """AP with three decimals and no leading zero: .589."""
    return ABSENT if value is None else f"{value:.3f}".removeprefix("0")


def mean_std(row: Row) -> str:
    """.589 ± .004, or the mean alone of one draw."""
    spread = "" if row.std is None else f" ± {points(row.std)}"
    return points(row.ap) + spread


def whole(value: float | None) -> str:
    """12,345."""
    return ABSENT if value is None else f"{value:,.0f}"
