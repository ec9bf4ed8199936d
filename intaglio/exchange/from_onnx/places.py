"""Operators that move or choose values: reshapes, transposes, slices, splits, blocks.

What a tensor is seen as is tracked (`views`): layouts cost nothing. An operator that needs a map,
N x C x H x W, gets one that is made where it is seen in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from intaglio import ops
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.pointwise import Pointwise
from intaglio.exchange.from_onnx.values import Codes, real_of
from intaglio.views import Chosen, View, both, moves, taken, view_of

VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
MOVING = (*VIEWS, "Transpose", "Slice", "Split", "Gather", "SpaceToDepth", "DepthToSpace")
# What has the same function for every value, wherever that is.
ALIKE = (
    "QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant", "Trunc", "Identity",
    "Dropout", "Relu", "Clip", "Sigmoid", "LeakyRelu", "HardSigmoid", "HardSwish", "Tanh", "Elu",
    "Softplus", "Exp", "Sqrt", "Abs", "QLinearSigmoid", "QLinearLeakyRelu",
)  # fmt: skip


class Places(Pointwise):
    """One method for each kind of operator; `seen` are the views of tensors that are not N x C, or
    N x C x H x W, or that with sizes of 1."""

    def seen_as(self, node: Node, name: str) -> View:
        """How the file sees a tensor."""
        if name in self.seen:
            return self.seen[name]
        whole = view_of(self.shape(node, self.values[name]), "nchw", self.batch)
        view = whole.reshaped(self.views[name]) if name in self.views else whole
        assert view is not None  # it differs in sizes of 1 only
        return view

    def see(self, name: str, value: Any, view: View) -> None:
        """A tensor of the file: a value, and how the file sees it."""
        self.values[name] = value
        self.seen.pop(name, None)
        self.views.pop(name, None)
        whole = view_of(view.shape, "nchw", self.batch)
        if view == whole:
            return
        self.views[name] = view.sides
        if view.shape[1:] != (1, 1) or view.factors != whole.factors:
            self.seen[name] = view

    def lay(self, node: Node, name: str) -> None:
        """A tensor that an operator wants as a map is made one, for all that read it later."""
        view = self.seen.get(name)
        if view is None or len(view.axes) != 4 or view.sides[0] != self.batch:
            return  # the operator says what is wrong with it
        steps = moves(view, "nchw")
        if (1, 1) not in (steps.down, steps.up):
            raise node.refuse(
                f"{name!r} must be N x C x H x W, and no rows and columns become channels; cut the"
                " model before it."
            )
        found = self.moved_by(node, self.values[name], steps.ops(view.shape, "", ""), name)
        self.see(name, found, view_of(self.shape(node, found), "nchw", self.batch))

    def moved_by(self, node: Node, x: Any, steps: Sequence[Chosen], name: str) -> Any:
        """A value behind some operations that choose."""
        if not steps:
            return x
        codes = self.plain(self.real(node, x), node)
        for op in steps:
            made = replace(op, output=self.unique(name), input=codes.name, origin=node.name)
            codes = self.placed(made, codes.grid)
        return codes if isinstance(x, Codes) else real_of(codes)

    def move(self, node: Node, x: Any) -> None:
        """The results of an operator of MOVING, in `values`."""
        name, made = node.inputs[0], node.outputs[0]
        view = self.seen_as(node, name)
        match node.kind:
            case "Transpose":
                self.see(made, x, view.transposed(self.permutation(node, len(view.axes))))
            case "Slice":
                self.take(node, x, made, self.sliced(node, view.sides))
            case "Gather":
                self.gather(node, x)
            case "Split":
                self.split(node, x)
            case "SpaceToDepth" | "DepthToSpace":
                self.lay(node, name)
                x, view = self.values[name], self.seen_as(node, name)
                parts, order, sides = self.blocks(node, view.sides)
                split = view.reshaped(parts)
                turned = split and split.transposed(order).reshaped(sides)
                if turned is None:
                    raise node.refuse(f"its blocksize must divide its input, {list(view.sides)}.")
                self.see(made, x, turned)
                self.lay(node, made)
            case _:
                self.reshape(node, x, view)

    def reshape(self, node: Node, x: Any, view: View) -> None:
        """The same values in another shape."""
        new = self.viewed(node)
        made = view.reshaped(new)
        if made is None and node.inputs[0] in self.seen:
            self.lay(node, node.inputs[0])
            x = self.values[node.inputs[0]]
            made = self.seen_as(node, node.inputs[0]).reshaped(new)
        if made is None:
            raise node.refuse(
                f"it must take whole parts of {list(view.sides)}, not make {list(new)} of it; cut"
                " the model before it."
            )
        self.see(node.outputs[0], x, made)

    def viewed(self, node: Node) -> tuple[int, ...]:
        """The shape that Flatten, Reshape, Squeeze or Unsqueeze makes of its input's."""
        old = self.view(node)
        if node.kind == "Reshape":
            shape = self.ints(node, "shape", 1) or []
            whole = node.attributes.get("allowzero", 0)
            found = reshaped(old, shape, bool(whole))
        elif node.kind == "Flatten":
            found = flattened(old, node.attributes.get("axis", 1))
        else:
            axes = self.ints(node, "axes", 1)
            squeezes = node.kind == "Squeeze"
            found = squeezed(old, axes) if squeezes else unsqueezed(old, axes or [])
        if found is None:
            raise node.refuse(f"it must fit its input, {list(old)}; export the model anew.")
        return found

    def permutation(self, node: Node, count: int) -> list[int]:
        """The axes of a Transpose; backwards where they are left out."""
        order = node.attributes.get("perm")
        order = list(range(count))[::-1] if order is None else [int(k) for k in order]
        if sorted(order) != list(range(count)):
            raise node.refuse(f"its perm must order {count} axes, not be {order[:8]}.")
        return order

    # --- parts ---

    def axis(self, node: Node, axis: int, count: int) -> int:
        """An axis that an operator names."""
        if not -count <= axis < count:
            raise node.refuse(f"its axis must be one of {count}, not {axis}.")
        return axis % count

    def sliced(self, node: Node, sides: Sequence[int]) -> dict[int, range]:
        """The places of every axis that a Slice names."""
        starts, ends = self.ints(node, "starts", 1), self.ints(node, "ends", 2)
        if starts is None or ends is None:
            raise node.refuse("it must have starts and ends; export the model anew.")
        axes = self.ints(node, "axes", 3)
        axes = list(range(len(starts))) if axes is None else axes
        steps = self.ints(node, "steps", 4) or [1] * len(starts)
        if len({len(v) for v in (starts, ends, axes, steps)}) > 1 or 0 in steps:
            raise node.refuse("its starts, ends, axes and steps must be as many, and no step 0.")
        found: dict[int, range] = {}
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            at = self.axis(node, axis, len(sides))
            if at in found:
                raise node.refuse("each axis must be named once.")
            found[at] = range(*slice(start, end, step).indices(sides[at]))
        return found

    def take(
        self, node: Node, x: Any, made: str, places: dict[int, Any], gone: int | None = None
    ) -> None:
        """The places of some axes of a node's input, under a name; the axis `gone` vanishes."""
        view, steps = self.seen_as(node, node.inputs[0]), list[Chosen]()
        for axis, wanted in places.items():
            found = taken(view, axis, wanted)
            if found is None and node.inputs[0] in self.seen and not steps:
                self.lay(node, node.inputs[0])
                x, view = self.values[node.inputs[0]], self.seen_as(node, node.inputs[0])
                found = taken(view, axis, wanted) if len(view.axes) > axis else None
            if found is None:
                raise node.refuse(
                    "it must take channels, or rows and columns in even steps; cut the model"
                    " before it."
                )
            op, view = found
            if isinstance(op, ops.Crop) and steps and isinstance(steps[-1], ops.Crop):
                op = both(steps.pop(), op)  # type: ignore[arg-type]  # of the line above
            if op is not None:
                steps.append(op)
        if gone is not None:
            view = View(view.shape, view.axes[:gone] + view.axes[gone + 1 :])
        self.see(made, self.moved_by(node, x, steps, made), view)

    def split(self, node: Node, x: Any) -> None:
        """A slice for every output."""
        sides, count = self.view(node), len(node.outputs)
        axis = self.axis(node, node.attributes.get("axis", 0), len(sides))
        sizes = self.ints(node, "split", 1)
        if sizes is None:
            if node.attributes.get("num_outputs", count) != count:
                raise node.refuse(f"its num_outputs must be {count}, the number of its outputs.")
            each = -(-sides[axis] // count)
            sizes = [each] * (count - 1) + [sides[axis] - each * (count - 1)]
        if len(sizes) != count or sum(sizes) != sides[axis] or min(sizes) < 1:
            raise node.refuse(
                f"its parts must be the {sides[axis]} places of axis {axis}, not {sizes[:8]}."
            )
        first = 0
        for name, size in zip(node.outputs, sizes, strict=True):
            if name:
                self.take(node, x, name, {axis: range(first, first + size)})
            first += size

    def gather(self, node: Node, x: Any) -> None:
        """Places of one axis by a list of constants, or one of them."""
        sides = self.view(node)
        axis = self.axis(node, node.attributes.get("axis", 0), len(sides))
        indices = self.array(node, 1)
        if indices.ndim > 1 or indices.dtype.kind != "i":
            raise node.refuse("its indices must be one list of whole numbers; cut before it.")
        places = [int(k) for k in indices.reshape(-1)]
        if not places or not all(-sides[axis] <= k < sides[axis] for k in places):
            raise node.refuse(f"its indices must be places of axis {axis}, not {places[:8]}.")
        gone = axis if indices.ndim == 0 else None
        self.take(node, x, node.outputs[0], {axis: [k % sides[axis] for k in places]}, gone)

    def blocks(
        self, node: Node, sides: Sequence[int]
    ) -> tuple[list[int], tuple[int, ...], list[int]]:
        """Shape, permutation and shape that SpaceToDepth and DepthToSpace are the same as."""
        n, (b, c, h, w) = node.attributes["blocksize"], sides
        if node.kind == "SpaceToDepth":
            return (
                [b, c, h // n, n, w // n, n], (0, 3, 5, 1, 2, 4), [b, c * n * n, h // n, w // n],
            )  # fmt: skip
        less, large = c // (n * n), [b, c // (n * n), h * n, w * n]
        if node.attributes.get("mode", b"DCR") == b"CRD":
            return [b, less, n, n, h, w], (0, 1, 4, 2, 5, 3), large
        return [b, n, n, less, h, w], (0, 3, 4, 1, 5, 2), large


# --- shapes, by the standard's text; None where they do not fit ----------------------------------

Shape = tuple[int, ...]


def reshaped(old: Shape, new: Sequence[int], allow_zero: bool) -> Shape | None:
    """0 is the old size at that place, or none with allowzero; one -1 is what is left."""
    made = list(new)
    for n, size in enumerate(made):
        if size == 0 and not allow_zero:
            if n >= len(old):
                return None
            made[n] = old[n]
    if made.count(-1) > 1 or any(v < -1 for v in made) or (allow_zero and {0, -1} <= set(made)):
        return None
    if -1 in made:
        known = -prod(made)
        if known < 1 or prod(old) % known:
            return None
        made[made.index(-1)] = prod(old) // known
    return tuple(made) if prod(made) == prod(old) else None


def flattened(old: Shape, axis: int) -> Shape | None:
    """Two sizes: the product of those before the axis, and of the others."""
    if not -len(old) <= axis <= len(old):
        return None
    axis = axis + len(old) if axis < 0 else axis
    return prod(old[:axis]), prod(old[axis:])


def squeezed(old: Shape, axes: Sequence[int] | None) -> Shape | None:
    """Without the sizes of 1 that are named, or without any."""
    if axes is None:
        return tuple(v for v in old if v != 1)
    if not all(-len(old) <= a < len(old) for a in axes):
        return None
    gone = {a % len(old) for a in axes}
    if any(old[a] != 1 for a in gone):
        return None
    return tuple(v for n, v in enumerate(old) if n not in gone)


def unsqueezed(old: Shape, axes: Sequence[int]) -> Shape | None:
    """With sizes of 1 at the places named in the result."""
    rank = len(old) + len(axes)
    places = {a % rank for a in axes if -rank <= a < rank}
    if len(places) != len(axes):
        return None
    rest = iter(old)
    return tuple(1 if n in places else next(rest) for n in range(rank))
