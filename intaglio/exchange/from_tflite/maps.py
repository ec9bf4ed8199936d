"""Operators without weights: sums, products, pools, borders, joins, and functions of one code."""

from __future__ import annotations

from math import frexp, prod

import numpy as np

from intaglio.errors import ProgramError
from intaglio.exchange.from_tflite.building import LAYOUTS, Held, window_of
from intaglio.exchange.from_tflite.flat import Array, Flat, Operator
from intaglio.exchange.from_tflite.layers import Layers
from intaglio.exchange.from_tflite.tables import grid, parts_of
from intaglio.forms import Real, gemmlowp_add, tflite_average, tflite_mean, tflite_product
from intaglio.gates import gated
from intaglio.ops import (
    Concat,
    Lookup,
    MaxPool2d,
    Multiply,
    Pad,
    Requant,
    Select,
    SumPool2d,
    Upsample,
)
from intaglio.views import Factor, View, view_of


class Maps(Layers):
    """One method for each kind of operator; all return the name of the result."""

    # --- functions of one code ---

    def function(self, op: Operator, root: int, table: Array, axis: int) -> Held:
        """A Lookup of the tensor that everything is a function of; where it has a table for every
        place along an axis, these must be channels."""
        held = self.held[root] if root in self.held else self.entered(op, root)
        made = self.codes(op, op.outputs[0])
        name = self.unique(made.name)
        if table.ndim > 1 and held.view.axes[axis] != (Factor("c", len(table)),):
            raise op.refuse(
                "its constant must have one value, or one for each channel; fold it into the layer"
                " before."
            )
        values = table.astype(np.int64)
        constant = self.builder.constant(f"{name}.table", values, made.type)
        lookup = Lookup(output=name, input=held.name, table=constant, origin=made.name)
        return Held(self.add(lookup, made), held.view)

    def entered(self, op: Operator, number: int) -> Held:
        """The graph's input."""
        self.enter(op, number, self.flat(number).shape)
        return self.held[number]

    # --- sums ---

    def addition(self, op: Operator) -> Held:
        """ADD and SUB of two maps, or of a map and a constant."""
        made = self.codes(op, op.outputs[0])
        constants = [self.flat(n).data is not None for n in op.inputs]
        if any(constants):
            raise op.refuse(
                "a constant beside a map must be one value, or one for each channel; fold it into"
                " the layer before."
            )
        a, b = self.input(op, 0), self.input(op, 1)
        if a.view != b.view and a.shape == b.shape:
            a, b = self.map(op, 0), self.map(op, 1)
        if a.view != b.view:
            raise op.refuse(
                f"its operands must have one shape, not {list(a.shape)} and {list(b.shape)};"
                " enlarge the smaller one before."
            )
        x, y = self.codes(op, op.inputs[0]), self.codes(op, op.inputs[1])
        powers = all(frexp(t.scale)[0] == 0.5 for t in (x, y, made))
        if x.kind == "INT16" and powers and op.options.potScaleInt16:
            raise op.refuse(
                "its scales must not all be powers of two where the file asks for TFLite's own"
                " addition of these; convert the model without pot_scale_int16."
            )
        reals = (Real(x.scale, x.zero), Real(y.scale, y.zero), Real(made.scale, made.zero))
        lo, hi = self.ends(op, made)
        name = self.unique(made.name)
        found = gemmlowp_add(
            self.builder, name, a.name, b.name, reals, lo, hi, made.name, made.type,
            1 if op.kind == "ADD" else -1,
        )  # fmt: skip
        return Held(found, a.view)

    # --- products ---

    def gate(self, op: Operator) -> Held:
        """MUL of two maps, of which one may be repeated: MBQM((a - za) * (b - zb), M, S) + zy."""
        if any(self.flat(n).data is not None for n in op.inputs):
            raise op.refuse(
                "a constant beside a map must be one value; fold it into the layer before."
            )
        read = [self.codes(op, n) for n in op.inputs]
        made = self.codes(op, op.outputs[0])
        if len({flat.kind for flat in (*read, made)}) > 1:
            raise op.refuse("its operands and its result must be of one type; convert anew.")
        sides, layout = self.operands(op)
        found = gated(*(self.shape(held) for held in sides))
        if found is None:
            a, b = (list(self.flat(n).shape) for n in op.inputs)
            raise op.refuse(
                f"its operands must have one shape, or one of them sides of 1, not {a} and {b}."
            )
        if found.swapped:
            sides, read = sides[::-1], read[::-1]
        names = []
        for held, flat, size in zip(sides, read, found.sizes, strict=True):
            name = held.name
            if size is not None:
                large = Upsample(output=self.unique(f"{made.name}.large"), input=name, size=size)
                name = self.add(large, flat)
            names.append(name)
        product = Multiply(
            output=self.unique(f"{made.name}.acc"), a=names[0], b=names[1], zero_a=read[0].zero,
            zero_b=read[1].zero, origin=made.name,
        )  # fmt: skip
        name = self.rescaled(op, self.builder.add(product), (read[0], read[1], made))
        view: View | None = sides[0].view
        if layout:
            view = view_of(found.shape, layout).reshaped(made.shape)
        if view is None:
            raise op.refuse(f"its result must be a map, not of the shape {list(made.shape)}.")
        return Held(name, view)

    def operands(self, op: Operator) -> tuple[list[Held], str]:
        """Both, as maps of one layout, that of the larger one; or, "", as they are seen alike."""
        a, b = self.input(op, 0), self.input(op, 1)
        if a.view == b.view:
            return [a, b], ""
        lifted = []
        for held in (a, b):  # sides of 1 come before those that are there
            view = held.view.reshaped((1,) * (4 - len(held.shape)) + tuple(held.shape))
            lifted.append(held if view is None else Held(held.name, view))
        layout = max(lifted, key=lambda held: prod(held.shape)).view.laid(*LAYOUTS) or "nhwc"
        return [self.settle(op, held, layout) for held in lifted], layout

    def rescaled(self, op: Operator, product: str, tensors: tuple[Flat, Flat, Flat]) -> str:
        """The Requant of a product, whose factor LiteRT computes in float32."""
        a, b, made = tensors
        m, s = self.of_product(op, product, tflite_product(a.scale, b.scale, made.scale))
        lo, hi = self.ends(op, made)
        name = self.unique(made.name)
        requant = Requant(
            output=name, input=product, origin=made.name, lo=lo, hi=hi, shift=(s,),
            multiplier=self.builder.constant(f"{name}.m", [m]),
            bias=self.builder.constant(f"{name}.b", [0]), offset=made.zero,
        )  # fmt: skip
        return self.add(requant, made)

    def of_product(self, op: Operator, product: str, factor: float) -> tuple[int, int]:
        """(M, S) of a product's factor."""
        m, s = self.multiplier(op, factor)
        reach = self.builder.tensors[product]
        if max(-reach.lo, reach.hi) << max(0, 31 - s) >= 1 << 31:
            raise op.refuse(
                "its products must fit into 32 bits before they are rescaled, as they must in"
                " TFLite; convert the model anew."
            )
        return m, s

    # --- pools ---

    def average(self, op: Operator) -> str:
        """AVERAGE_POOL_2D over windows within the image."""
        x, made = self.map(op), self.codes(op, op.outputs[0])
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        _, h, w = self.shape(x)
        kernel = (op.options.filterHeight, op.options.filterWidth)
        window = window_of(op, (h, w), kernel)
        if any(window["padding"]):
            raise op.refuse("its windows must lie within the image; pad before it, or use VALID.")
        name = self.unique(made.name)
        pool = SumPool2d(
            output=self.unique(f"{name}.sum"), input=x.name, kernel=kernel, origin=made.name,
            **window,
        )  # fmt: skip
        try:
            found = tflite_average(self.builder, name, pool)
        except ProgramError as error:
            raise op.refuse(str(error)) from error
        return self.clamped(op, found, made)

    def largest(self, op: Operator) -> str:
        """MAX_POOL_2D."""
        x, made = self.map(op), self.codes(op, op.outputs[0])
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        _, h, w = self.shape(x)
        kernel = (op.options.filterHeight, op.options.filterWidth)
        pool = MaxPool2d(
            output=self.unique(made.name), input=x.name, kernel=kernel, origin=made.name,
            **window_of(op, (h, w), kernel),
        )  # fmt: skip
        return self.clamped(op, self.add(pool, made), made)

    def mean(self, op: Operator) -> str:
        """MEAN over height and width: MBQM of the sum less n zero points, by `tflite_mean`."""
        (x, layout), made = self.laid(op), self.codes(op, op.outputs[0])
        axes = {layout[axis % 4] for axis in self.numbers(op, 1)}
        if axes != {"h", "w"}:
            raise op.refuse("it must be over height and width (axes 1 and 2).")
        read = self.codes(op, op.inputs[0])
        assert made.type is not None
        _, h, w = self.shape(x)
        name, n = self.unique(made.name), h * w
        pool = SumPool2d(
            output=self.unique(f"{name}.sum"), input=x.name, kernel=(h, w), origin=made.name
        )
        m, s = self.multiplier(op, read.scale / made.scale)
        m, s = tflite_mean(m, s, n)
        requant = Requant(
            output=name, input=self.builder.add(pool), origin=made.name, lo=made.type.lo,
            hi=made.type.hi, multiplier=self.builder.constant(f"{name}.m", [m]), shift=(s,),
            bias=self.builder.constant(f"{name}.b", [-n * read.zero * m]), offset=made.zero,
        )  # fmt: skip
        return self.add(requant, made)

    # --- order ---

    def border(self, op: Operator) -> Held:
        """PAD and PADV2 by the zero point, or by a constant code: rows, columns and channels."""
        (x, layout), made = self.laid(op), self.codes(op, op.outputs[0])
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        pads = self.constant(op, 1).data
        assert pads is not None
        if pads.shape != (4, 2) or pads.min() < 0 or pads[0].any():
            raise op.refuse("it must add rows, columns and channels only, not images.")
        sides = dict(zip(layout, pads.tolist(), strict=True))
        value = made.zero
        if op.kind == "PADV2":
            own = self.constant(op, 2).data
            assert own is not None
            value = int(own.reshape(-1)[0])
        name = x.name
        if any(sides["h"] + sides["w"]):
            pad = Pad(output=self.unique(made.name), input=name, value=value, origin=made.name,
                      padding=(*sides["h"], *sides["w"]))  # fmt: skip
            name = self.add(pad, made)
        if any(sides["c"]):
            own_channels = range(self.shape(x)[0])
            channels = (*[-1] * sides["c"][0], *own_channels, *[-1] * sides["c"][1])
            select = Select(output=self.unique(made.name), input=name, channels=channels,
                            value=value, origin=made.name)  # fmt: skip
            name = self.add(select, made)
        return Held(name, view_of(self.builder.tensors[name].shape, layout))

    def joined(self, op: Operator) -> Held:
        """CONCATENATION of channels: the kernel copies codes of 16 bits whatever their scales are,
        and rescales unsigned ones by a table."""
        made, (first, layout) = self.codes(op, op.outputs[0]), self.laid(op)
        parts = [first]
        for place in range(1, len(op.inputs)):
            held, other = self.laid(op, place)
            parts.append(held if other == layout else self.settle(op, held, layout))
        if layout[op.options.axis % 4] != "c" or op.options.fusedActivationFunction:
            raise op.refuse("it must join channels (axis 3), without an activation.")
        read = [self.codes(op, n) for n in op.inputs]
        names = [part.name for part in parts]
        if made.kind == "UINT8" and {flat.kind for flat in read} == {"UINT8"}:
            names = self.alike(op, names)
        elif made.kind != "INT16" or {flat.kind for flat in read} != {"INT16"}:
            for flat in read:
                self.same_grid(op, flat, made)
        concat = Concat(output=self.unique(made.name), parts=tuple(names), origin=made.name)
        name = self.add(concat, made)
        return Held(name, view_of(self.builder.tensors[name].shape, layout))

    def alike(self, op: Operator, names: list[str]) -> list[str]:
        """Operands of a CONCATENATION as codes of its result, by the kernel's own tables."""
        made = self.codes(op, op.outputs[0])
        tables = parts_of(self.file, op)
        for place, (name, number) in enumerate(zip(names, op.inputs, strict=True)):
            if number not in tables:
                continue
            table, out = tables[number], self.unique(f"{made.name}.part{place}")
            if isinstance(table, str):
                raise op.refuse(f"LiteRT's kernel does not run it: {table}")
            constant = self.builder.constant(f"{out}.table", table.astype(np.int64), made.type)
            lookup = Lookup(output=out, input=name, table=constant, origin=made.name)
            names[place] = self.add(lookup, made)
        return names

    def same_grid(self, op: Operator, read: Flat, made: Flat) -> None:
        """What copies codes must have one scale and zero point on both sides."""
        if grid(read) != grid(made):
            raise op.refuse(
                f"its tensors {read.index} and {made.index} must have one type, scale and zero"
                " point; convert the model anew."
            )
