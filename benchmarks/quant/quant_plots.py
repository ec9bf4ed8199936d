"""The figures of the page of results."""

from pathlib import Path

import matplotlib as mpl
from quant_cells import width
from quant_methods import BEST_FIXED, WIDTHS
from quant_rows import Results

from intaglio.system.disk import whole_file

mpl.use("Agg")
from matplotlib import pyplot as plt

SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "intaglio", "font.size": 9}
KINDS = ("weights", "codes")


def write_figures(found: Results, folder: Path) -> list[str]:
    """Write those figures for which there are data; their file names."""
    written = []
    with mpl.rc_context(SETTINGS):
        for name, draw in (("results-ap.svg", draw_ap), ("results-p.svg", draw_p)):
            figure = draw(found)
            if figure is None:
                continue
            with whole_file(folder / name) as part:
                figure.savefig(part, format="svg", metadata={"Date": None})
            plt.close(figure)
            written.append(name)
    return written


def draw_ap(found: Results) -> plt.Figure | None:
    """AP against bits, a line for each method, a panel for each detector."""
    names = sorted({row.detector for row in found.rows})
    if not names:
        return None
    figure, axes = panels(len(names))
    widths = sorted(WIDTHS, key=lambda w: (w[0] + w[1], w[0]))
    colours = mpl.colormaps["tab20"]
    for axis, name in zip(axes, names, strict=True):
        for number, method in enumerate(m for m in found.methods() if m != BEST_FIXED):
            rows = [(i, found.row(name, method, *w)) for i, w in enumerate(widths)]
            at = [(i, row) for i, row in rows if row is not None]
            if at:
                axis.errorbar(
                    [i for i, _ in at], [row.ap for _, row in at],
                    [row.std or 0.0 for _, row in at], label=method, color=colours(number % 20),
                    marker="o", markersize=3, linewidth=2 if "detptq" in method else 1,
                )  # fmt: skip
        if name in found.real:
            axis.axhline(found.real[name].ap, color="black", linestyle=":", label="float")
        axis.set_xticks(range(len(widths)), [width(*w) for w in widths])
        axis.set(title=name, ylabel="AP, integers")
        axis.grid(alpha=0.3)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    return figure


def draw_p(found: Results) -> plt.Figure | None:
    """The p that DetPTQ chose at W4A4, along the network, every draw in which it used them."""
    rows = found.search()
    if not rows:
        return None
    figure, axes = panels(len(rows))
    for axis, (name, row) in zip(axes, rows.items(), strict=True):
        for kind, marker, colour in zip(KINDS, "ox", ("tab:blue", "tab:orange"), strict=True):
            points = [
                (number, p)
                for cell in row.cells
                if cell.kept
                for number, (k, _, p) in enumerate(cell.chosen)
                if k == kind
            ]
            x, y = ([point[i] for point in points] for i in (0, 1))
            axis.scatter(x, y, s=14, marker=marker, color=colour, alpha=0.5, label=kind)
        axis.set(title=name, xlabel="step, in the network's order", ylabel="p chosen, W4A4")
        axis.grid(alpha=0.3)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    return figure


def panels(count: int) -> tuple[plt.Figure, list[plt.Axes]]:
    """A row of axes."""
    figure, axes = plt.subplots(1, count, figsize=(4.5 * count + 1.5, 3.4), layout="constrained")
    return figure, [axes] if count == 1 else list(axes)
