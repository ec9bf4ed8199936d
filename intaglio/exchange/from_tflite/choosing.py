"""Operators that choose channels and pixels, or move them: slices, splits, blocks, layouts.

They copy codes, so that the tensors on both sides have one scale and zero point.
"""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.exchange.from_tflite.building import Held
from intaglio.exchange.from_tflite.constants import picks
from intaglio.exchange.from_tflite.flat import Operator
from intaglio.exchange.from_tflite.resizing import Resizing
from intaglio.ops import Crop, DepthToSpace, Select, SpaceToDepth
from intaglio.views import view_of


class Choosing(Resizing):
    """One method for each kind of operator."""

    # --- layouts ---

    def transposed(self, op: Operator) -> None:
        """TRANSPOSE: the same map, seen along other axes."""
        order = self.numbers(op, 1)
        held = self.input(op)
        if sorted(order) != list(range(len(held.view.axes))):
            raise op.refuse(f"it must order {len(held.view.axes)} axes, not {order}.")
        self.same_grid(op, self.codes(op, op.inputs[0]), self.codes(op, op.outputs[0]))
        self.keep(op, Held(held.name, held.view.transposed(order)))

    # --- parts ---

    def slice(self, op: Operator) -> Held:
        """SLICE: a start and a size for each axis, -1 for all that is left."""
        starts, sizes = self.numbers(op, 1), self.numbers(op, 2)
        sides = self.input(op).shape
        found = [
            range(start, side if size < 0 else start + size)
            for start, size, side in zip(starts, sizes, sides, strict=True)
        ]
        return self.picked(op, 0, found, 0)

    def strided(self, op: Operator) -> Held:
        """STRIDED_SLICE."""
        ends = [self.numbers(op, place) for place in (1, 2, 3)]
        return self.picked(op, 0, picks(op, self.input(op).shape, ends), 0)

    def parts(self, op: Operator) -> None:
        """SPLIT, SPLIT_V and UNPACK: every result is a slice."""
        source = 1 if op.kind == "SPLIT" else 0
        sides = self.input(op, source).shape
        if op.kind == "UNPACK":
            axis = op.options.axis
        else:
            axis = self.numbers(op, 0 if op.kind == "SPLIT" else 2)[0]
        axis %= len(sides)
        sizes = [sides[axis] // len(op.outputs)] * len(op.outputs)
        if op.kind == "SPLIT_V":
            sizes = self.numbers(op, 1)
            rest = sides[axis] - sum(n for n in sizes if n > 0)
            sizes = [rest if n < 0 else n for n in sizes]
        if sum(sizes) != sides[axis] or len(sizes) != len(op.outputs) or min(sizes) < 1:
            raise op.refuse(f"its parts must be the {sides[axis]} of axis {axis}, not {sizes}.")
        first = 0
        for place, size in enumerate(sizes):
            found = [range(side) for side in sides]
            found[axis] = range(first, first + size)
            self.keep(op, self.picked(op, source, found, place), place)
            first += size

    def picked(self, op: Operator, source: int, places: Sequence[range], result: int) -> Held:
        """The picked places of every axis: a Crop and a Select, where they leave something out."""
        held, layout = self.laid(op, source)
        made = self.codes(op, op.outputs[result])
        self.same_grid(op, self.codes(op, op.inputs[source]), made)
        chosen = dict(zip(layout, places, strict=True))
        name, (channels, *sides) = held.name, self.shape(held)
        if not all(map(len, places)):
            raise op.refuse("it must leave something; convert the model anew.")
        rows, columns = ((chosen[k].start, chosen[k].stop, chosen[k].step) for k in "hw")
        if min(rows[2], columns[2]) < 1:
            raise op.refuse("it must not turn rows or columns round; flip the image before.")
        if (rows, columns) != ((0, sides[0], 1), (0, sides[1], 1)):
            crop = Crop(output=self.unique(made.name), input=name, rows=rows, columns=columns,
                        origin=made.name)  # fmt: skip
            name = self.add(crop, made)
        if list(chosen["c"]) != list(range(channels)):
            select = Select(output=self.unique(made.name), input=name, origin=made.name,
                            channels=tuple(chosen["c"]))  # fmt: skip
            name = self.add(select, made)
        view = view_of(self.builder.tensors[name].shape, layout).reshaped(made.shape)
        if view is None:
            raise op.refuse(f"its result must be a slice, not of the shape {list(made.shape)}.")
        return Held(name, view)

    # --- blocks ---

    def rearranged(self, op: Operator) -> str:
        """SPACE_TO_DEPTH and DEPTH_TO_SPACE, whose channels are in the order of a Program's."""
        x, made, n = self.map(op), self.codes(op, op.outputs[0]), op.options.blockSize
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        kind = SpaceToDepth if op.kind == "SPACE_TO_DEPTH" else DepthToSpace
        block = kind(output=self.unique(made.name), input=x.name, block=(n, n), origin=made.name)
        return self.add(block, made)
