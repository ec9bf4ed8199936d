"""The methods that `quant.py` compares: a name's settings, and the Programs that were trained."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intaglio.detect import zoo
from intaglio.errors import DataError
from intaglio.file import load
from intaglio.program import Program
from intaglio.quant import Budget, QuantConfig, Reconstruction

Settings = Mapping[str, Any]

# Not more bit operations than either bundled detector takes at W4A4, on average over its
# multiplications: 16, and more for the 8-bit stem.
MIXED: Settings = {"budgets": ["bops=19.3"], "sum_bits": 8}

# A name and what it sets of QuantConfig beside the widths: the one place that says what a method
# name means. Cells of other settings are measured anew when a line changes.
METHODS: dict[str, Settings] = {
    "minmax": {"method": "minmax"},
    "percentile99.9": {"method": "percentile", "percentile": 99.9},
    "percentile99.99": {"method": "percentile", "percentile": 99.99},
    "mse": {"method": "mse"},
    "kl": {"method": "kl"},
    "lp1": {"method": "lp", "p": 1.0},
    "lp2": {"method": "lp", "p": 2.0},
    "lp2.4": {"method": "lp", "p": 2.4},
    "lp3": {"method": "lp", "p": 3.0},
    "lp4": {"method": "lp", "p": 4.0},
    "detptq": {"method": "detptq"},
    "detptq-thorough": {"method": "detptq", "thorough": True},
    "detptq-sums8": {"method": "detptq", "sum_bits": 8},
    "detptq-mixed": {"method": "detptq", **MIXED},
    "detptq+reconstruction": {"method": "detptq", "reconstruct": asdict(Reconstruction())},
    "detptq+reconstruction-mixed": {
        "method": "detptq",
        "reconstruct": asdict(Reconstruction()),
        **MIXED,
    },
}
FIXED = tuple(name for name, settings in METHODS.items() if settings["method"] == "lp")
BEST_FIXED = "best fixed p"
AQD = "aqd"  # trained, so that it comes from `trained` below
PAGE_ORDER = (*list(METHODS)[:10], BEST_FIXED, *list(METHODS)[10:], AQD)

WIDTHS = ((4, 4), (3, 3), (4, 8), (2, 4), (8, 8), (2, 2))  # in the order in which they are measured
AQD_WIDTHS = ((4, 4), (3, 3), (2, 2))

ABLATION = "ablation"
FILE = re.compile(r"(?P<method>.+)-w(?P<w>[2-8])a(?P<a>\d+)(-run(?P<run>\d+))?")


def config(method: str, wbits: int, abits: int) -> QuantConfig:
    """The configuration of a method name."""
    settings = dict(METHODS[method])
    if "reconstruct" in settings:
        settings["reconstruct"] = Reconstruction(**settings["reconstruct"])
    settings["budgets"] = tuple(map(Budget.parse, settings.get("budgets", ())))
    return QuantConfig(wbits=wbits, abits=abits, **settings)


def has_width(method: str, bits: tuple[int, int]) -> bool:
    """Whether a method is measured at a width; under a budget, only at the one it stands for."""
    return "budgets" not in METHODS[method] or bits == WIDTHS[0]


def model_digest(detector: str) -> str:
    """Changes with a bundled detector's weights."""
    return hashlib.sha256(zoo.find(detector).weights.read_bytes()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Trained:
    """A Program whose parameters were trained: a row `method` of the results, or of the ablation.

    `run` counts trainings that differ in their seed alone.
    """

    detector: str
    method: str
    wbits: int
    abits: int
    run: int
    ablation: bool
    program: Program


def trained(folder: Path | None) -> list[Trained]:
    """The Programs of a folder: `DETECTOR/METHOD-w4a4.intaglio`, several trainings of one with
    `-run0`, `-run1`, ... behind the width, and the ablation's in `DETECTOR/ablation/`.

    Raises DataError for a name of another form, ProgramError for a damaged file.
    """
    if folder is None:
        return []
    found = []
    for path in sorted(folder.rglob("*.intaglio")):
        detector, *inner = path.relative_to(folder).parent.parts or ("",)
        match = FILE.fullmatch(path.stem)
        if detector not in zoo.BUNDLED or inner not in ([], [ABLATION]) or match is None:
            raise DataError(
                f"{path} must be called DETECTOR/METHOD-w4a4.intaglio, or"
                f" DETECTOR/{ABLATION}/NAME-w2a2.intaglio, below {folder}; rename it."
            )
        widths = int(match["w"]), int(match["a"])
        run = int(match["run"] or 0)
        found.append(Trained(detector, match["method"], *widths, run, bool(inner), load(path)))
    return found
