"""Quantised ONNX graphs to Programs: QDQ, QLinear operators, and QONNX's Quant.

The importer walks the nodes once. A float tensor is kept as what it is to become (`values.Real`): a
sum of integers with exact factors, bounds, or a function of codes. The QuantizeLinear or Quant that
reads it settles it as one Requant, Add, Lookup or Concat of the Program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intaglio import ops
from intaglio.channels.losses import announce, with_losses
from intaglio.errors import ModelError, ProgramError
from intaglio.exchange.cutting import QUANTISERS, Ended, ended
from intaglio.exchange.elementwise import Elementwise, active
from intaglio.exchange.from_onnx.door import admit
from intaglio.exchange.from_onnx.folding import evaluate
from intaglio.exchange.from_onnx.functions import FUNCTIONS
from intaglio.exchange.from_onnx.onnx_file import TYPES, Node, OnnxFile, read
from intaglio.exchange.from_onnx.operators import LARGEST, Operator
from intaglio.exchange.from_onnx.places import ALIKE, MOVING
from intaglio.exchange.from_onnx.qonnx import QONNX_KINDS
from intaglio.exchange.from_onnx.values import (
    Bordered,
    Codes,
    Grid,
    Joined,
    Part,
    Real,
    Weights,
    real_of,
)
from intaglio.fixed import Arithmetic, IntType
from intaglio.program import Program
from intaglio.system.steps import Tell, quiet

U8 = IntType(8, False)


@dataclass(frozen=True)
class Imported:
    """A Program made of a file. `notes` names the layers that onnxruntime has in float32 where the
    Program has integers, and why: codes next to a half may differ by one. They are known in its
    arithmetic alone. `qonnx`: the file is one for the qonnx package. `wide` names the tensors that
    the file leaves in float, of 16 bits in the Program."""

    program: Program
    notes: dict[str, str]
    qonnx: bool
    reads_floats: bool
    ends: tuple[str, ...] = ()  # the file's tensors that are the outputs, where it goes on
    wide: tuple[str, ...] = ()


def import_onnx(
    path: Path,
    arithmetic: Arithmetic | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
) -> Program:
    """The Program of a quantised ONNX file.

    Its input is what the file's first QuantizeLinear makes, if nothing else reads the graph's
    input; else uint8 pixels 0 to 255, which the graph sees as they are or, with `mean` and `std`
    (one value for each channel), as (pixel / 255 - mean) / std.

    It ends at the tensors `outputs`, or at the network's last layers (`cutting`).

    Raises ModelError naming the node for what no Program can do, and ProgramError where the
    arithmetic cannot hold a layer.
    """
    return imported(path, arithmetic, mean=mean, std=std, outputs=outputs, meta=meta).program


def imported(
    path: Path,
    arithmetic: Arithmetic | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    tell: Tell = quiet,
) -> Imported:
    """`import_onnx`, with what is known of the file besides. `tell` hears of each operator."""
    whole = read(path)
    if len(whole.inputs) != 1:
        raise ModelError(f"{path} must have one input, not {len(whole.inputs)}.")
    check_quantised(whole)
    make = partial(
        translated, arithmetic=arithmetic or Arithmetic(), mean=mean, std=std, meta=meta or {},
        tell=tell,
    )  # fmt: skip
    if outputs:
        return make(ended(whole, outputs), whole.outputs)
    try:
        return make(Ended(whole, ()), whole.outputs)
    except ModelError as error:
        ends = ended(whole)
        if not ends.cut:
            raise
        try:
            return make(ends, whole.outputs)
        except ModelError:
            raise error from None


def translated(
    ends: Ended, outputs: tuple[str, ...], arithmetic: Arithmetic, mean: Sequence[float] | None,
    std: Sequence[float] | None, meta: Mapping[str, Any], tell: Tell,
) -> Imported:  # fmt: skip
    """A file, or as much of one as is not cut off; `outputs` are the whole file's."""
    file, notes = ends.file, dict(meta)
    if ends.cut:
        notes["cut"] = list(ends.cut)
    importer = Importer(file, arithmetic)
    importer.image(file.inputs[0], mean, std)
    for number, node in enumerate(file.nodes):
        tell("operator", number + 1, len(file.nodes))
        importer.add(node)
    for name in file.outputs:
        importer.output(name)
    announce(importer.losses)
    kinds = {node.kind for node in file.nodes}
    return Imported(
        importer.builder.build(with_losses(notes, importer.losses)),
        importer.notes,
        bool(kinds & set(QONNX_KINDS)),
        file.inputs[0].type.tensor_type.elem_type not in TYPES,
        file.outputs if file.outputs != outputs else (),
        tuple(importer.wide_names),
    )


def check_quantised(file: OnnxFile) -> None:
    """Raises ModelError for a float network, with the command that takes one."""
    kinds = {node.kind for node in file.nodes}
    floats = file.inputs[0].type.tensor_type.elem_type not in TYPES
    whole = not any(kind in QUANTISERS or kind.startswith(("QLinear", "QGemm")) for kind in kinds)
    if floats and whole and kinds & {"Conv", "Gemm", "MatMul", "ConvTranspose"}:
        raise ModelError(
            f"{file.path} must be a quantised network, not a float one: use `intaglio quantize"
            f" {file.path} --images DIR -o MODEL.intaglio`, or quantise it by another tool first."
        )


class Importer(Elementwise):
    """Quantisers, functions and everything that is no layer with weights."""

    def image(
        self,
        value: onnx.ValueInfoProto,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None:
        """The graph's input."""
        kind, path = value.type.tensor_type.elem_type, self.file.path
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if len(dims) != 4 or not all(1 <= d <= LARGEST for d in dims[1:]):
            raise ModelError(
                f"{path}: its input {value.name!r} must be N x C x H x W with fixed C, H and W of 1"
                f" to {LARGEST}, not {dims}; export the model for one image size."
            )
        if kind != onnx.TensorProto.FLOAT and kind not in TYPES:
            raise ModelError(
                f"{path}: its input {value.name!r} must be float32 or integers of at most 32 bits;"
                " export the model with float32."
            )
        self.batch = max(dims[0], 1)
        shape = (dims[1], dims[2], dims[3])
        readers = [n for n in self.file.nodes if value.name in n.inputs]
        grid = Grid(U8, np.float32(1), 0)
        if kind in TYPES:
            grid = replace(grid, type=TYPES[kind])
        elif (
            mean is None
            and std is None
            and value.name not in self.file.outputs
            and len({n.kind for n in readers}) == 1
        ):
            first = readers[0]
            admit(first, self.file.opsets)
            if first.kind == "QuantizeLinear" and len({n.inputs[1:] for n in readers}) == 1:
                grid = self.grid(first, first.inputs[1:])
            elif first.kind in QONNX_KINDS[:3] and len(readers) == 1:
                scales, found = self.fake(first)[:2]
                grid = found if scales.size == 1 else grid
        op = ops.Input(output=self.unique(value.name), shape=shape, type=grid.type)
        codes = Codes(self.builder.add(op, grid.type, float(grid.scale), (grid.zero,)), grid)
        self.values[value.name] = codes if kind in TYPES else real_of(codes)
        if mean is not None or std is not None:
            if kind in TYPES:
                raise ModelError(f"{path}: --mean and --std must go with a float input.")
            self.values[value.name] = self.normalised(codes, mean or (0.0,), std or (1.0,))

    def normalised(self, codes: Codes, mean: Sequence[float], std: Sequence[float]) -> Real:
        """(pixel / 255 - mean) / std of each channel."""
        channels = self.builder.tensors[codes.name].shape[0]
        if {len(mean), len(std)} - {1, channels} or min(std) <= 0:
            raise ModelError(
                f"--mean and --std must have {channels} values, std above 0, not {mean} and {std}."
            )
        gain = [1 / (255 * Fraction(v)) for v in std]
        addend = [
            -Fraction(mean[c % len(mean)]) / Fraction(std[c % len(std)]) for c in range(channels)
        ]
        part = Part(codes.name, np.float32(1), (np.float32(1),), (0,), tuple(gain))
        return Real((part,), tuple(addend))

    def output(self, name: str) -> None:
        """One of the graph's outputs."""
        value = self.values.get(name)
        if isinstance(value, Real) and value.codes is not None and value.function is None:
            bounded = value.lo is not None or value.hi is not None
            value = self.plain(value, self.maker(name)) if bounded else value.codes
        if isinstance(value, (Real, Joined)) and self.quantised:
            value = self.ranged(value, self.maker(name))
        if not isinstance(value, Codes):
            raise ModelError(
                f"{self.file.path}: output {name!r} must be quantised, not float; quantise the"
                " operator that makes it too."
            )
        if name in self.seen:
            self.lay(self.maker(name), name)
            found = self.values[name]
            value = found.codes if isinstance(found, Real) and found.codes else found
        view, shape = self.views.get(name), self.builder.tensors[value.name].shape
        if view is not None and not self.plainly(view, shape):
            node = self.maker(name)
            while node.kind in ALIKE:
                node = self.maker(node.inputs[0])
            raise ModelError(
                f"{self.file.path}: output {name!r} must be N x C, or N x C x H x W, not"
                f" {list(view)}; leave its last {node.kind} out, and give the values another shape"
                " outside."
            )
        made = ops.Output(output=self.unique(f"{name}.out"), input=value.name)
        self.builder.add(made, value.grid.type, float(value.grid.scale), (value.grid.zero,))

    def add(self, node: Node) -> None:
        """One node."""
        inputs = [self.value(node, name) if name else None for name in node.inputs]
        given = [v for v in inputs if v is not None]
        lazy = node.kind in ("DequantizeLinear", *QONNX_KINDS)
        if node.kind == "Constant" and not node.inputs:
            return
        if given and all(isinstance(v, np.ndarray) for v in given) and not lazy:
            opset = self.file.opsets.get("", 1)
            if node.kind == "QuantizeLinear":
                admit(node, self.file.opsets)
            self.values[node.outputs[0]] = evaluate(node, inputs, opset)
            return
        row = admit(node, self.file.opsets)
        try:
            if node.kind in MOVING:
                self.check(node, row, inputs)
                self.move(node, inputs[0])
            else:
                for name in node.inputs if node.kind not in ALIKE else ():
                    self.lay(node, name)
                inputs = [self.value(node, name) if name else None for name in node.inputs]
                self.check(node, row, inputs)
                self.values[node.outputs[0]] = self.result(node, inputs)
                self.follow(node)
        except ProgramError as error:
            raise node.refuse(str(error)) from error
        self.check_size(node)

    def follow(self, node: Node) -> None:
        """The result has as many dimensions as the activation that it is made of."""
        if node.kind in ALIKE and node.inputs[0] in self.seen:
            made = self.values[node.outputs[0]]
            self.see(node.outputs[0], made, self.seen[node.inputs[0]])
            return
        view = next((self.views[n] for n in node.inputs if n in self.views), None)
        value, name = self.values[node.outputs[0]], node.outputs[0]
        if view is None or name in self.views or not active(value) or isinstance(value, Bordered):
            return
        channels = self.shape(node, value)[0]
        same = prod(view) == self.batch * channels
        self.views[name] = view if same else (self.batch, channels, *view[2:])

    def check(self, node: Node, row: Operator, x: list[Any]) -> None:
        """What the door cannot know: types and dimensions of inputs, readers of outputs."""
        for name in node.outputs[1:] if node.kind != "Split" else ():
            if name in self.read:
                raise node.refuse(
                    f"its output {name!r} must not be read, only the first one; cut the model"
                    " before what reads it."
                )
        if not row.integers and any(isinstance(v, Codes) for v in x):
            raise node.refuse(
                "its input must be float, not integer codes; put DequantizeLinear before it."
            )
        if (
            row.maps
            and active(x[0])
            and not isinstance(x[0], Bordered)
            and (len(self.view(node)) != 4 or not self.channels_first(node))
        ):
            raise node.refuse("its input must be N x C x H x W; keep maps four-dimensional.")

    def check_size(self, node: Node) -> None:
        """Maps must have sizes that a machine can hold."""
        value = self.values[node.outputs[0]]
        if isinstance(value, (Codes, Real, Joined)):
            shape = self.shape(node, value)
            if max(shape) > LARGEST or prod(shape) > 1 << 30:
                raise node.refuse(
                    f"its result must have at most {LARGEST} values a side and 2^30 in all, not"
                    f" {shape}; export the model for a smaller image."
                )

    def result(self, node: Node, x: list[Any]) -> Any:
        """The value of a node's output."""
        match node.kind:
            case "QuantizeLinear":
                grid = self.grid(node, node.inputs[1:])
                if isinstance(x[0], Bordered):
                    return self.settle_border(x[0], grid, node)
                return self.settle(self.real(node, x[0]), grid, node)
            case "DequantizeLinear":
                return self.dequantise(node, x[0])
            case "Quant" | "IntQuant" | "BipolarQuant":
                return self.quant(node, x)
            case "Trunc":
                return self.trunc(node, x)
            case "Identity" | "Dropout":
                if np.any(self.array(node, 2, False)):
                    raise node.refuse("training_mode must be false; export it for inference.")
                return x[0]
            case "Shape":
                start, end = node.attributes.get("start", 0), node.attributes.get("end")
                return np.array(self.view(node), dtype=np.int64)[start:end]
            case "Relu":
                return self.clamp(node, x[0], Fraction(0), None)
            case "Clip":
                return self.clip(node, x)
            case "Add" | "Sub" | "Mul" | "Div":
                return self.elementwise(node, x)
            case "QLinearAdd":
                a, b = (self.qlinear(node, n) for n in (0, 3))
                self.check_views(node, 0, 3)
                added = self.sum(node, real_of(a), real_of(b), 1)
                return self.settle(added, self.grid(node, node.inputs[6:]), node)
            case "QLinearMul":
                a, b = (self.qlinear(node, n) for n in (0, 3))
                made = self.product(node, real_of(a), real_of(b))
                return self.settle(made, self.grid(node, node.inputs[6:]), node)
            case "Concat":
                return self.concat(node, x)
            case "QLinearConcat":
                if len(x) % 3 != 2 or len(x) < 5:
                    raise node.refuse("it must have three inputs for each part; export it anew.")
                self.check_axis(node, range(2, len(x), 3))
                parts = [self.qlinear(node, n) for n in range(2, len(x), 3)]
                joined = Joined(tuple(real_of(p) for p in parts))
                return self.settle(joined, self.grid(node, node.inputs[:2]), node)
            case "QLinearSigmoid" | "QLinearLeakyRelu":
                plain = replace(node, kind=node.kind[7:])
                real = self.function(plain, [real_of(self.qlinear(node))])
                return self.settle(real, self.grid(node, node.inputs[3:]), node)
        if node.kind in FUNCTIONS:
            return self.function(node, x)
        return self.layer(node, x)

    # --- quantisers ---

    def dequantise(self, node: Node, x: Any) -> Real | Weights:
        """What integers stand for: constants are weights."""
        if isinstance(x, Codes):
            grid = self.grid(node, node.inputs[1:], x.grid.type)
            return real_of(Codes(x.name, grid))
        if isinstance(x, np.ndarray):
            self.check_integers(node, x)
            zero = self.zeros(node, 2)
            return self.weights(node, x, self.array(node, 1), zero, node.inputs[0])
        raise node.refuse("its input must be integers.")

    # --- between layers ---

    def concat(self, node: Node, x: list[Any]) -> Any:
        """Channels side by side: of codes at once, of reals when they are quantised."""
        self.check_axis(node, range(len(x)))
        if all(isinstance(v, Codes) for v in x):
            if len({v.grid.type for v in x}) > 1:
                raise node.refuse(
                    "its integer operands must be of one type; join what they stand for, between"
                    " DequantizeLinear and QuantizeLinear."
                )
            grid = x[0].grid  # codes are copied: what they stand for, their reader says
            return self.settle(Joined(tuple(real_of(Codes(v.name, grid)) for v in x)), grid, node)
        parts: list[Real] = []
        for v in x:
            real = self.real(node, v)
            parts += real.parts if isinstance(real, Joined) else (real,)
        return Joined(tuple(parts))

    def check_axis(self, node: Node, places: Sequence[int]) -> None:
        """Operands of a Concat must be joined along their channels."""
        views = [self.view(node, n) for n in places]
        first = all(self.channels_first(node, n) for n in places)
        if len({len(v) for v in views}) > 1 or not first:
            raise node.refuse("its operands must all be N x C x H x W, or all N x C.")
        if node.attributes["axis"] not in (1, 1 - len(views[0])):
            raise node.refuse("it must join channels (axis 1); cut the model before it.")
