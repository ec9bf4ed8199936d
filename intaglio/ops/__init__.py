"""The operations of a `Program`: fields, shape rule, range rule, meaning.

One frozen dataclass per operation. Tensors are (C, H, W); batches are the simulator's business.
`infer` is the shape and range rule: tensors come in, the shape goes out and the interval [lo, hi]
that every output value is proved to lie in. The executable meaning of each operation is
`sim/reference.py`, written from the docstrings here with the functions of `fixed.py`.

    base        what every operation is, and the two ends of a Program
    arithmetic  operations that compute
    choosing    operations that move codes
    interpolation  sums of two rows and two columns
"""

from intaglio.ops.arithmetic import (
    Add,
    Conv2d,
    Lookup,
    Multiply,
    Requant,
    SumPool2d,
    products,
    rounding_of,
)
from intaglio.ops.base import (
    SIDE,
    Constant,
    Context,
    Inferred,
    Input,
    Ints,
    Op,
    Output,
    Padding,
    Pair,
    Shape,
    Tensor,
    Unary,
    Windowed,
    dequantise,
    window_shape,
)
from intaglio.ops.choosing import (
    Concat,
    Crop,
    DepthToSpace,
    MaxPool2d,
    Pad,
    Select,
    SpaceToDepth,
    Upsample,
)
from intaglio.ops.interpolation import Interpolate, Tap

OPS: tuple[type[Op], ...] = (
    Input,
    Output,
    Conv2d,
    Requant,
    Add,
    MaxPool2d,
    SumPool2d,
    Upsample,
    Concat,
    Pad,
    Lookup,
    Select,
    Crop,
    SpaceToDepth,
    DepthToSpace,
    Multiply,
    Interpolate,
)

__all__ = [
    "OPS",
    "SIDE",
    "Add",
    "Concat",
    "Constant",
    "Context",
    "Conv2d",
    "Crop",
    "DepthToSpace",
    "Inferred",
    "Input",
    "Interpolate",
    "Ints",
    "Lookup",
    "MaxPool2d",
    "Multiply",
    "Op",
    "Output",
    "Pad",
    "Padding",
    "Pair",
    "Requant",
    "Select",
    "Shape",
    "SpaceToDepth",
    "SumPool2d",
    "Tap",
    "Tensor",
    "Unary",
    "Upsample",
    "Windowed",
    "dequantise",
    "products",
    "rounding_of",
    "window_shape",
]
