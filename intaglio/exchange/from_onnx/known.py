"""What the importer knows of an ONNX graph so far, and how it is looked up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from intaglio.channels.losses import Loss
from intaglio.channels.spans import Spans
from intaglio.exchange.from_onnx.door import admit
from intaglio.exchange.from_onnx.on_codes import OnCodes
from intaglio.exchange.from_onnx.onnx_file import TYPES, Array, Node, OnnxFile, int_type, single
from intaglio.exchange.from_onnx.values import (
    Bordered,
    Codes,
    Grid,
    Joined,
    Real,
    Weights,
    real_of,
)
from intaglio.fixed import Arithmetic, IntType
from intaglio.program import Builder
from intaglio.views import View, inferred

OF_CODES = (
    "QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant", "QLinearConv",
    "QLinearMatMul", "QLinearAdd", "QGemm",
)  # fmt: skip


class Known:
    """The Program as it grows. `values` holds every tensor of the graph met so far; `derived`, for
    codes that are a function of other codes, those and the table."""

    def __init__(self, file: OnnxFile, arithmetic: Arithmetic) -> None:
        self.file = file
        self.arithmetic = arithmetic
        self.builder = Builder(arithmetic)
        self.spans = Spans(self.builder)
        self.losses: list[Loss] = []
        self.values: dict[str, Any] = dict(file.constants)
        self.types: dict[str, IntType] = dict(file.types)
        self.quantised = any(n.kind in OF_CODES for n in file.nodes)
        # codes of values that the file does not quantise, by their identity, and the values
        self.wide: dict[int, tuple[Any, Codes]] = {}
        self.wide_names: list[str] = []
        self.derived: dict[str, tuple[Codes, Any]] = {}
        self.read = {name for node in file.nodes for name in node.inputs} | set(file.outputs)
        self.views: dict[str, tuple[int, ...]] = {}  # shapes of those that are not N x C x H x W
        self.seen: dict[str, View] = {}  # how the file sees those of another order
        self.batch = 1  # the first dimension, as the file has it
        self.runtime = arithmetic.product == "single"  # the runtime's floats are to be met
        self.precision: Any = np.float32 if self.runtime else np.float64
        self.on_codes = OnCodes(file)
        self.notes: dict[str, str] = {}
        for node in file.nodes:
            if node.kind == "Constant" and not node.inputs:
                admit(node, file.opsets)
                self.values[node.outputs[0]] = self.stored(node)

    def stored(self, node: Node) -> Any:
        """The value of a Constant node."""
        if len(node.attributes) != 1:
            raise node.refuse("it must have one value; store the constant as an initialiser.")
        ((name, value),) = node.attributes.items()
        if name != "value":
            return np.array(value, dtype=np.float32 if name.startswith("value_f") else np.int64)
        if value.data_type in TYPES:
            self.types[node.outputs[0]] = TYPES[value.data_type]
        try:
            return onnx.numpy_helper.to_array(value)
        except Exception as error:  # onnx raises many kinds
            raise node.refuse("its value must be whole, not damaged.") from error

    # --- looking up ---

    def unique(self, name: str) -> str:
        """A tensor name in letters that all tools accept, not used before."""
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", name.strip("/").replace("/", ".")) or "x"
        found, n = clean, 2
        while found in self.builder.tensors:
            found, n = f"{clean}_{n}", n + 1
        return found

    def value(self, node: Node, name: str) -> Any:
        """What is known of an input."""
        if name not in self.values:
            raise node.refuse(f"its input {name!r} must be made before it is read.")
        return self.values[name]

    def array(self, node: Node, index: int, default: Any = None) -> Any:
        """An input that must be constant numbers; `default` where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return default
        return self.numbers(node, node.inputs[index])

    def numbers(self, node: Node, name: str) -> Array:
        """A constant of at least one number, by name."""
        found = self.constant(self.value(node, name))
        if not isinstance(found, np.ndarray):
            raise node.refuse(f"its input {name!r} must be constant; fold constants (onnxsim).")
        if found.dtype.kind in "OUS":
            raise node.refuse(f"its input {name!r} must hold numbers.")
        return found

    def ints(self, node: Node, attribute: str, index: int) -> list[int] | None:
        """Whole numbers that are an attribute in old operator sets and an input in new ones; None
        where they are left out."""
        found = node.attributes.get(attribute)
        if found is None:
            array = self.array(node, index)
            if array is None:
                return None
            if array.dtype.kind not in "iu":
                raise node.refuse(f"its {attribute} must be whole numbers.")
            found = array.reshape(-1)
        return [int(v) for v in found]

    def zeros(self, node: Node, index: int) -> Array:
        """Zero points of constants, as int64 in one row; 0 where they are left out."""
        found = self.array(node, index)
        if found is None:
            return np.zeros(1, np.int64)
        if int_type(found) is None:
            raise node.refuse("its zero points must be of a type of integers; quantise to int8.")
        row: Array = found.astype(np.int64).reshape(-1)
        return row

    def finite(self, node: Node, value: Any, what: str) -> Array:
        """A constant as float64, without NaN and infinity."""
        array = np.asarray(value, dtype=np.float64)
        if not np.isfinite(array).all():
            raise node.refuse(f"{what} must be finite, not NaN or infinite.")
        return array

    @staticmethod
    def constant(value: Any) -> Any:
        """Dequantised constants as arrays again; other values as they are."""
        if not isinstance(value, Weights):
            return value
        lines = [1] * value.codes.ndim
        if value.scale.size > 1:
            lines[value.axis] = -1
        return value.codes * value.scale.astype(np.float64).reshape(lines or [1])[()]

    def view(self, node: Node, index: int = 0) -> tuple[int, ...]:
        """The shape of a node's input in the file: N x C x H x W, or other sizes of the same C
        values of each image."""
        name = node.inputs[index]
        return self.views.get(name) or (self.batch, *self.shape(node, self.value(node, name)))

    def channels_first(self, node: Node, index: int = 0) -> bool:
        """Whether an input is N x C, and what is behind is a map or ones."""
        shape = self.shape(node, self.value(node, node.inputs[index]))
        return self.plainly(self.view(node, index), shape)

    def plainly(self, view: tuple[int, ...], shape: tuple[int, int, int]) -> bool:
        """Whether a shape in the file is the Program's, but for ones behind it."""
        ones = (1,) * (len(view) - 2)
        return view[:2] == (self.batch, shape[0]) and view[2:] in (shape[1:], ones)

    def maker(self, name: str) -> Node:
        """The node that makes a tensor."""
        return next(n for n in self.file.nodes if name in n.outputs)

    def shape(self, node: Node, x: Any) -> tuple[int, int, int]:
        """(C, H, W)."""
        real = self.real(node, x)
        if isinstance(real, Joined):
            shapes = [self.shape(node, part) for part in real.parts]
            return (sum(s[0] for s in shapes), *shapes[0][1:])
        if real.codes is not None or not real.parts:
            name = (real.codes or real.floats.codes[0]).name
        else:
            name = real.parts[0].tensor
        shape = self.builder.tensors[name].shape
        for op in real.phases.behind if real.phases else ():
            shape = inferred(op, shape)
        return shape

    def real(self, node: Node, x: Any) -> Any:
        """A value that is not constant."""
        if isinstance(x, Codes):
            return real_of(x)
        if isinstance(x, Bordered):
            scale = float(x.codes.grid.scale)
            raise node.refuse(
                f"the border that it reads is {x.value:g}, which no code of scale {scale:g} stands"
                " for; pad with 0, or quantise behind the Pad."
            )
        if not isinstance(x, (Real, Joined)):
            raise node.refuse(
                "its operand must be an activation, not a constant; fold constants first (onnxsim)."
            )
        return x

    def grid(self, node: Node, names: Sequence[str], type: IntType | None = None) -> Grid:
        """Scale, zero point and type of a quantiser; `type` is that of the codes it reads."""
        scale, zero = self.numbers(node, names[0]), 0
        zeros = self.numbers(node, names[1]) if len(names) > 1 and names[1] else None
        if scale.size != 1 or (zeros is not None and zeros.size != 1):
            raise node.refuse(
                "activations must have one scale and zero point for all channels; quantise them by"
                " tensor."
            )
        scale = single(node, scale)
        given = node.attributes.get("output_dtype", 0) if node.kind == "QuantizeLinear" else 0
        if given and given not in TYPES:
            raise node.refuse("its output_dtype must be a type of integers; quantise to int8.")
        made = TYPES[given] if given else type
        if zeros is not None:
            made = self.types.get(names[1], int_type(zeros))
            if made is None:
                raise node.refuse("its zero point must be of a type of integers; quantise to int8.")
            zero = int(zeros.item())
            if made not in (type or made, TYPES.get(given, made)):
                raise node.refuse(f"its zero point must be of its codes' type, not {made}.")
        made = made or IntType(8, False)
        step = np.float32(scale.item())
        if made.bits > 16 or not (step > 0 and np.isfinite(step)):
            raise node.refuse(
                "activations must have at most 16 bits and a finite scale above 0; quantise anew."
            )
        return Grid(made, step, zero)

    def note(self, node: Node, reason: str) -> None:
        """Where the runtime's float32 is not this Program's to the bit, and why."""
        if self.runtime:
            self.notes.setdefault(node.name or node.outputs[0], reason)
