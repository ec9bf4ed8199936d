"""AP of one width under several ways to choose ranges: python benchmarks/methods.py [NAME]
[--images N] [--bits B] [--method M ...]. A method is `lp:P`, `minmax`, `detptq` or
`detptq:thorough`.

Prints the table of docs/detptq.md. One draw of 64 calibration scenes; AP of the integer outputs.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from intaglio.api import evaluate
from intaglio.detect import zoo
from intaglio.detect.images import stack
from intaglio.quant import QuantConfig, quantize

CALIBRATED = 64
METHODS = ("lp:1", "lp:2", "lp:2.4", "lp:3", "lp:4", "detptq", "detptq:thorough")


def main() -> None:
    """One row per method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="fcos-nano", choices=list(zoo.BUNDLED))
    parser.add_argument("--images", type=int, default=zoo.HELD_OUT_COUNT)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--method", nargs="+", default=METHODS)
    options = parser.parse_args()
    model = zoo.load(options.name)
    print("| method | AP | AP50 | AP75 | full-network forwards |", flush=True)
    print("|---|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        held_out = zoo.held_out(options.name, Path(folder) / "held-out", options.images)
        chosen = zoo.calibration(options.name, Path(folder) / "calibration", CALIBRATED)
        pixels = stack([chosen.file(i) for i in chosen.ids], None)
        for method in options.method:
            done = quantize(model, pixels, config(method, options.bits))
            found = evaluate(done.program, held_out)
            search = done.search
            cost = f"{search.forwards:,.0f} (naive {search.naive_forwards:,})" if search else ""
            cells = (f"{found.ap:.3f}", f"{found.ap50:.3f}", f"{found.ap75:.3f}", cost)
            print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


def config(method: str, bits: int) -> QuantConfig:
    """`lp:2.4`, `detptq:thorough`, ... as a configuration."""
    kind, _, detail = method.partition(":")
    settings: dict[str, Any] = {"wbits": bits, "abits": bits, "method": kind}
    if kind == "lp":
        settings["p"] = float(detail)
    elif detail:
        settings[detail] = True
    return QuantConfig(**settings)


if __name__ == "__main__":
    main()
