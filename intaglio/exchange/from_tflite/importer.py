"""TFLite's integer networks to Programs.

The importer walks the operators once. What it cannot translate is cut off where nothing with
weights is behind it (decoding of boxes, a last SOFTMAX): the tensors before become the Program's
outputs, and `meta["cut"]` names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.errors import ModelError, ProgramError
from intaglio.exchange.from_tflite.building import Held
from intaglio.exchange.from_tflite.choosing import Choosing
from intaglio.exchange.from_tflite.constants import folded
from intaglio.exchange.from_tflite.flat import DAMAGE, File, Operator, read
from intaglio.exchange.from_tflite.kernels import Kernels
from intaglio.exchange.from_tflite.tables import BINARY, UNARY, Table, tables_of
from intaglio.exchange.from_tflite.xnnpack import FLOATS, Xnnpack
from intaglio.host import SUM_BITS, Softmax
from intaglio.ops import Output
from intaglio.program import Builder, Program
from intaglio.views import Factor

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
MOVES = (*VIEWS, "TRANSPOSE", "QUANTIZE", "DEQUANTIZE")
PARTS = ("SPLIT", "SPLIT_V", "UNPACK")
TRANSLATIONS: dict[str, Callable[[Choosing, Operator], str | Held]] = {
    "CONV_2D": Choosing.convolution,
    "DEPTHWISE_CONV_2D": Choosing.depthwise,
    "FULLY_CONNECTED": Choosing.dense,
    "TRANSPOSE_CONV": Choosing.transposed_convolution,
    "ADD": Choosing.addition,
    "SUB": Choosing.addition,
    "MUL": Choosing.gate,
    "AVERAGE_POOL_2D": Choosing.average,
    "MAX_POOL_2D": Choosing.largest,
    "MEAN": Choosing.mean,
    "PAD": Choosing.border,
    "PADV2": Choosing.border,
    "CONCATENATION": Choosing.joined,
    "RESIZE_NEAREST_NEIGHBOR": Choosing.nearest,
    "RESIZE_BILINEAR": Choosing.bilinear,
    "SLICE": Choosing.slice,
    "STRIDED_SLICE": Choosing.strided,
    "SPACE_TO_DEPTH": Choosing.rearranged,
    "DEPTH_TO_SPACE": Choosing.rearranged,
}


@dataclass(frozen=True)
class Imported:
    """A Program made of a file; `fed` are the channels of its Input by the file's inputs; `tensors`
    what the file's numbers are in it; `cut` what was left off, as (operator, why)."""

    program: Program
    file: File
    fed: Mapping[int, range]
    tensors: Mapping[int, Held]
    cut: tuple[tuple[str, str], ...]
    kernels: Kernels = "reference"


def imported(
    path: Path, meta: Mapping[str, Any] | None = None, kernels: Kernels = "reference"
) -> Imported:
    """The Program of a quantised .tflite file, in the integers of those kernels.

    Raises ModelError naming the operator for what no Program can do.
    """
    file = folded(read(path))
    if not file.inputs:
        raise ModelError(f"{path} must have an input.")
    importer = importer_of(file, kernels)
    for number, op in enumerate(file.operators):
        importer.put(number, op)
    outputs = importer.finish()
    cut = tuple((op.name, reason) for op, reason in importer.missing)
    notes: dict[str, Any] = dict(meta or {})
    if cut:
        notes["cut"] = [name for name, _ in cut]
    steps, held = importer.host(outputs)
    if steps:
        notes["host"] = [step.to_meta() for step in steps]
    program = importer.builder.build(notes)
    return Imported(program, file, importer.fed, importer.held | held, cut, kernels)


def importer_of(file: File, kernels: Kernels) -> Importer:
    """Of the reference kernels' integers, or of XNNPACK's."""
    kind = Importer if kernels == "reference" else ByDefault
    return kind(file, tables_of(file, kernels))


def refusal_of(op: Operator, error: Exception) -> ModelError:
    """What a Program cannot do, or an operator whose inputs or options are not those of its kind:
    nothing has checked them before."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, ProgramError):
        return op.refuse(str(error))
    return op.refuse("its inputs and options must be those of its kind; convert the model anew.")


class Importer(Choosing):
    """Operator by operator."""

    def __init__(self, file: File, tables: Mapping[int, Table | str]) -> None:
        super().__init__(file)
        self.tables = tables
        self.missing: list[tuple[Operator, str]] = []
        self.lost: dict[int, ModelError] = {}  # tensors that cut operators make
        self.odds: set[int] = set()  # of those, what a SOFTMAX made, in any shape
        self.ends_at: set[int] = set()
        self.readers: dict[int, list[int]] = {}
        for number, op in enumerate(file.operators):
            for n in op.inputs:
                self.readers.setdefault(n, []).append(number)

    def put(self, number: int, op: Operator) -> None:
        """One operator: translated, or cut off."""
        lost = [self.lost[n] for n in op.inputs if n in self.lost]
        try:
            if lost:
                raise lost[0]
            self.add_operator(number, op)
        except (ModelError, ProgramError, *DAMAGE) as error:
            refusal = refusal_of(op, error)
            # A layer of odds is their mean, as in heads that give a distribution for each side.
            of_odds = not self.odds.isdisjoint(op.inputs[:1])
            if op.kind in LAYERS and not of_odds:
                raise refusal from error
            if op.kind == "SOFTMAX" or (op.kind in MOVES and of_odds):
                self.odds.update(op.outputs)
            self.missing.append((op, str(refusal)))
            self.lost |= dict.fromkeys(op.outputs, refusal)
            self.ends_at |= {n for n in op.inputs if n in self.held}

    def add_operator(self, number: int, op: Operator) -> None:
        """Its operations; the result joins `held`."""
        if not op.inputs or min(op.inputs[:2]) < 0:
            raise op.refuse("its first inputs must not be left out; convert the model anew.")
        if op.kind in PARTS:
            self.parts(op)
            return
        if len(op.outputs) != 1:
            raise op.refuse("it must have one result; cut the model before it.")
        table = self.tables.get(number)
        if isinstance(table, str):
            raise op.refuse(f"LiteRT's kernel does not run it: {table}")
        if op.kind in VIEWS:
            self.view(op)
            return
        if op.kind == "TRANSPOSE":
            self.transposed(op)
            return
        if op.kind == "QUANTIZE" and self.flat(op.inputs[0]).kind == "FLOAT32":
            self.quantised(op)
            return
        if table is not None:
            if not self.absorbed(op):
                self.keep(op, self.function(op, *table))
            return
        if op.kind in UNARY or (op.kind in BINARY and op.kind not in ("ADD", "SUB", "MUL")):
            raise op.refuse(
                "it must be a function of one 8-bit tensor; cut the model before it, or fold it"
                " into a layer."
            )
        translate = TRANSLATIONS.get(op.kind)
        if translate is None:
            raise op.refuse(
                "a Program has no such operation; cut the model before it, or convert it without."
            )
        self.keep(op, getattr(self, translate.__name__)(op))  # a subclass may have its own

    def absorbed(self, op: Operator) -> bool:
        """Whether all that read its result are functions of what it reads."""
        (made,) = op.outputs
        readers = self.readers.get(made, [])
        roots = [self.tables.get(n) for n in readers]
        whole = bool(readers) and made not in self.file.outputs
        return whole and all(isinstance(t, tuple) and t[0] != made for t in roots)

    def quantised(self, op: Operator) -> None:
        """The graph's float input made codes, which are the Program's input."""
        (read,), (made,) = op.inputs, op.outputs
        alone = (read,) == self.file.inputs
        if not alone or len(self.readers[read]) > 1:
            raise op.refuse(
                "only the file's input may be float, and nothing else may read it; convert the"
                " model with full integer quantisation."
            )
        self.enter(op, made, self.flat(made).shape)

    def view(self, op: Operator) -> None:
        """The same values in another shape; that of the graph's input is its first reader's."""
        made, number = self.flat(op.outputs[0]), op.inputs[0]
        if number in self.file.inputs and number not in self.held and len(made.shape) == 4:
            self.enter(op, number, made.shape)
        held = self.input(op)
        if np.prod(made.shape) != np.prod(held.shape):
            raise op.refuse(f"it must keep its {int(np.prod(held.shape))} values.")
        view = held.view.reshaped(made.shape)
        if view is None:
            held, _ = self.laid(op)
            view = held.view.reshaped(made.shape)
        if view is None:
            raise op.refuse(
                f"its shape {list(made.shape)} must take whole parts of {list(held.shape)}; cut the"
                " model before it."
            )
        self.held[made.index] = Held(held.name, view)

    def finish(self) -> dict[str, str]:
        """Outputs of the Program, by the tensors that they are of: the file's own, and what cut
        operators read."""
        found: dict[str, str] = {}
        for number in self.file.outputs:
            if number not in self.held and number not in self.lost:
                raise ModelError(
                    f"{self.file.path}: its output {number} must be made by an operator, not be a"
                    " constant; convert the model without it."
                )
        wanted = [n for n in (*self.file.outputs, *sorted(self.ends_at)) if n in self.held]
        results = {n for op in self.file.operators for n in op.outputs}
        softmax = any(op.kind == "SOFTMAX" for op, _ in self.missing)
        if not wanted or not (results & set(self.held) or softmax):
            first = next(iter(self.lost.values()), None)
            raise first or ModelError(f"{self.file.path} must have an operator.")
        for number in dict.fromkeys(wanted):
            held = self.held[number]
            if held.name not in found:
                made = Output(output=self.unique(f"{held.name}.out"), input=held.name)
                self.add(made, self.flat(number))
                found[held.name] = made.output
        return found

    def host(self, outputs: Mapping[str, str]) -> tuple[list[Softmax], dict[int, Held]]:
        """The softmaxes over the channels of an output, and what they make by its number."""
        steps: list[Softmax] = []
        held: dict[int, Held] = {}
        for op, _ in self.missing:
            source = self.held.get(op.inputs[0]) if op.kind == "SOFTMAX" and op.inputs else None
            made = self.flat(op.outputs[0]) if len(op.outputs) == 1 else None
            if source is None or made is None or made.type is None:
                continue
            read = self.codes(op, op.inputs[0])
            (*_, last), channels = source.view.axes, self.shape(source)[0]
            over = last == ((Factor("c", channels),) if channels > 1 else ())
            grid = (read.kind, (1 / 256,), (made.type.lo,))
            fits = (made.kind, made.scales, made.zeros) == grid
            if over and fits and channels <= 1 << SUM_BITS and op.options.beta > 0:
                name = self.unique(made.name)
                beta = float(op.options.beta)
                step = Softmax(outputs[source.name], name, read.scale, beta, made.type.lo)
                steps.append(step)
                held[made.index] = Held(name, source.view)
        return steps, held


class ByDefault(Xnnpack, Importer):
    """In the integers of LiteRT as it runs by default."""

    def __init__(self, file: File, tables: Mapping[int, Table | str]) -> None:
        super().__init__(file, tables)
        self.builder = Builder(FLOATS)

    def host(self, outputs: Mapping[str, str]) -> tuple[list[Softmax], dict[int, Held]]:
        """None: a SOFTMAX on the host is that of the reference kernels."""
        return [], {}
