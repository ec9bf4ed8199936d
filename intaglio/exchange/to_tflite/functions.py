"""Which of TFLite's operators is a table: LiteRT's own kernels are asked for theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from intaglio.exchange.from_tflite.kernels import run
from intaglio.exchange.to_tflite.file import Graph, Type
from intaglio.exchange.to_tflite.scales import I8
from intaglio.forms import Real

Array = NDArray[Any]
CODES = np.arange(I8.lo, I8.hi + 1)
PLAIN = ("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "ELU")  # that microcontrollers have
SLOPES = (0.01, 0.02, 0.05, 0.1, 0.125, 0.2, 0.25, 0.3, 0.5)  # of LEAKY_RELU, as models have it
TRIED = 4  # of them, the nearest to what the table says


@dataclass(frozen=True, eq=False)
class Asked:
    """A function of one code: its value at each of the file's codes, of which only [lo, hi] occur,
    and both grids."""

    table: Array
    lo: int
    hi: int
    x: Real
    y: Real

    @property
    def slope(self) -> float:
        """Below zero, of a LEAKY_RELU that it may be."""
        low = (self.lo <= CODES) & (min(self.hi + 1, self.x.zero) > CODES)
        low &= (self.table > I8.lo) & (self.table < I8.hi)
        if not low.any():
            return 0.0
        reals = (CODES[low] - self.x.zero) * self.x.scale
        return float(((self.table[low] - self.y.zero) * self.y.scale) @ reals / (reals @ reals))

    def is_made(self, found: Array) -> bool:
        """Whether a kernel's table has the same codes where there are any."""
        used = (self.lo <= CODES) & (self.hi >= CODES)
        return bool(np.array_equal(found[used], self.table[used]))


def ways(asked: Asked) -> Iterator[tuple[str, Any]]:
    """Operators that it may be, with their options."""
    yield "QUANTIZE", schema.QuantizeOptionsT()
    for kind in PLAIN:
        yield kind, None
    slope = asked.slope
    if slope > 0:
        for value in (*sorted(SLOPES, key=lambda s: abs(s - slope))[:TRIED], slope):
            options = schema.LeakyReluOptionsT()
            options.alpha = float(np.float32(value))
            yield "LEAKY_RELU", options


def own(several: Sequence[Asked]) -> list[tuple[str, Any] | None]:
    """Of each function the operator whose kernel makes it, None where none does."""
    files, tried = {}, {}
    for n, asked in enumerate(several):
        for k, (kind, options) in enumerate(ways(asked)):
            graph = Graph()
            x, y = (
                graph.tensor(name, (1, 1, len(CODES), 1), Type.INT8, real)
                for name, real in (("x", asked.x), ("y", asked.y))
            )
            graph.inputs, graph.outputs = [x], [y]
            graph.add(kind, [x], y, options)
            codes = CODES.astype(np.int8).reshape(1, 1, -1, 1)
            files[f"{n}-{k}"] = graph.serialised(), [codes]
            tried[f"{n}-{k}"] = n, kind, options
    found: list[tuple[str, Any] | None] = [None] * len(several)
    if not files:
        return found
    _, answers = run(files)
    for name, (n, kind, options) in tried.items():
        answer = answers[name]
        untold = found[n] is None and not answer.words
        if untold and several[n].is_made(answer.tensors[1].reshape(-1)):
            found[n] = kind, options
    return found
