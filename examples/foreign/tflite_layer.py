"""The layer that rescale_unit is for, and the unit's tables out of a trace of it.

python tflite_layer.py FOLDER            net.intaglio, the layer, and image.npy, a frame for it
python tflite_layer.py FOLDER --tables   the unit's files, from FOLDER/trace
"""

import sys
from pathlib import Path

import numpy as np

from intaglio.cosim import Trace, table_text
from intaglio.file import save
from intaglio.fixed import IntType, preset
from intaglio.ops import Conv2d, Input, Output, Requant
from intaglio.program import Builder, Program

CHANNELS, ZERO_POINT = 8, -5
INT8 = IntType(8, True)


def layer() -> Program:
    """A convolution with TFLite's int32 bias, multiplier and shift."""
    rng = np.random.default_rng(4)
    weights = rng.integers(-127, 128, (CHANNELS, 3, 3, 3))
    bias = rng.integers(-20_000, 20_000, CHANNELS) - weights.sum(axis=(1, 2, 3)) * 128
    mult = rng.integers(1 << 30, 1 << 31, CHANNELS)
    rshift = rng.integers(6, 9, CHANNELS)
    net = Builder(preset("tflite"))
    net.add(Input(output="image", shape=(3, 12, 14), type=IntType(8, False)))
    net.add(Conv2d(output="conv.acc", input="image", weight=net.constant("w", weights),
                   padding=(1, 1, 1, 1), pad_value=(0,), origin="conv"))  # fmt: skip
    net.add(
        Requant(output="conv", input="conv.acc", multiplier=net.constant("M", mult),
                bias=net.constant("B", bias * mult), shift=tuple(int(31 + r) for r in rshift),
                offset=ZERO_POINT, lo=INT8.lo, hi=INT8.hi, origin="conv"),
        INT8,
    )  # fmt: skip
    net.add(Output(output="out", input="conv"))
    return net.build()


def tables(trace: Trace) -> dict[str, str]:
    """The unit's three files, out of the trace alone: it shifts by 31 bits first."""
    return {
        "bias": table_text(trace.table("conv", "bias"), 32),
        "mult": table_text(trace.table("conv", "M"), 32),
        "rshift": table_text(trace.table("conv", "S") - 31, 8),
    }


def main() -> None:
    """Command line."""
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["--tables"]:
        for stem, text in tables(Trace.open(folder / "trace")).items():
            (folder / f"{stem}.hex").write_text(text)
        return
    folder.mkdir(exist_ok=True)
    save(layer(), folder / "net.intaglio")
    image = np.random.default_rng(5).integers(0, 256, (3, 12, 14), dtype=np.uint8)
    np.save(folder / "image.npy", image)


if __name__ == "__main__":
    main()
