"""The operators that the importer reads: every version, input and attribute of each, in one table.

`door.admit` enforces it before a node is translated. What the table does not name is refused, so
that nothing of a file can go unread. An attribute is one of three things:

    read      the translation uses it (INT, INTS, FLOAT, STRING, ...)
    only      it must have a value that changes nothing (`only`), and else is refused with a remedy
    unused    it has no meaning for what is accepted (`unused`), for the reason given

Inputs are read, or `unused`; `?` may be left out, `*` may come several times. Versions are those at
which the standard's text of the operator changed; the tests compare this table with the schemas
of the onnx, onnxruntime and qonnx packages. Sets before 7, which onnxruntime does not promise to
run, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["int", "ints", "float", "floats", "string", "tensor"]
STANDARD, MICROSOFT = "", "com.microsoft"
QONNX = "qonnx.custom_op.general"
QONNX_NAMES = (QONNX, "onnx.brevitas", "finn.custom_op.general")
OLDEST, NEWEST = 7, 27  # operator sets of the standard
LARGEST = 1 << 16  # sizes of maps, windows and borders


@dataclass(frozen=True)
class Attribute:
    """What an attribute may be. `values`: those allowed, all if empty. `low` bounds integers from
    below (LARGEST does from above). Floats must be finite where they are not `unbounded`."""

    kind: Kind
    values: tuple[Any, ...] = ()
    remedy: str = ""
    low: int | None = None
    required: bool = False
    unbounded: bool = False
    why_unused: str = ""


@dataclass(frozen=True)
class Input:
    """One input of an operator."""

    name: str
    optional: bool = False
    many: bool = False
    why_unused: str = ""


@dataclass(frozen=True)
class Operator:
    """One operator in the versions that share inputs and attributes.

    integers    it may read codes themselves; the others read what codes stand for
    maps        its operand must have four dimensions
    refused     why no version of these can be read, with the remedy
    """

    kind: str
    versions: tuple[int, ...]
    inputs: tuple[Input, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = STANDARD
    integers: bool = False
    maps: bool = False
    refused: str = ""


INT, INTS = Attribute("int"), Attribute("ints")
FLOAT, FLOATS = Attribute("float"), Attribute("floats")
STRING, TENSOR = Attribute("string"), Attribute("tensor")
BOUND = Attribute("float", unbounded=True)
FLAG = Attribute("int", (0, 1), "set it to 0 or 1")
COUNTS = Attribute("ints", low=1)
BORDERS = Attribute("ints", low=0)
AUTO_PAD = Attribute(
    "string", ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"), "export the model with pads"
)


def only(kind: Kind, *values: Any, remedy: str) -> Attribute:
    """An attribute that must have one of these values."""
    return Attribute(kind, values, remedy)


def unused(kind: Kind, why: str) -> Attribute:
    """An attribute without meaning for what is accepted."""
    return Attribute(kind, why_unused=why)


def row(
    kind: str,
    versions: tuple[int, ...],
    inputs: str,
    *,
    domain: str = STANDARD,
    integers: bool = False,
    maps: bool = False,
    refused: str = "",
    reasons: Mapping[str, str] | None = None,
    shared: Mapping[str, Attribute] | None = None,
    **attributes: Attribute,
) -> Operator:
    """A row: `inputs` as "x scale? parts*", `reasons` why some of them are unused, `shared`
    attributes that several operators have."""
    given = [
        Input(
            text.rstrip("?*"),
            text.endswith("?"),
            text.endswith("*"),
            (reasons or {}).get(text.rstrip("?*"), ""),
        )
        for text in inputs.split()
    ]
    known = {**(shared or {}), **attributes}
    return Operator(kind, versions, tuple(given), known, domain, integers, maps, refused)


ONE_SCALE = unused("int", "there is one scale; activations with several are refused")
TO_INTEGERS = unused("int", "it is about float8 types, which are refused")
BLOCKS = only("int", 0, remedy="quantise by tensor or by channel, not in blocks")
FLOAT32 = only("int", 0, 1, remedy="quantise in float32")
FLOAT32_DATA = only("int", 0, 1, remedy="dequantise to float32")
STEPPED = {"strides": COUNTS, "dilations": COUNTS, "pads": BORDERS, "auto_pad": AUTO_PAD}
KERNEL = replace(COUNTS, required=True)
CONV = {**STEPPED, "kernel_shape": COUNTS, "group": replace(INT, low=1)}
POOL = {"kernel_shape": KERNEL, "strides": COUNTS, "pads": BORDERS, "auto_pad": AUTO_PAD}
SAMPLED = {**POOL, "count_include_pad": FLAG}
FIRST = only("int", 0, remedy="export it with channels first (N, C, H, W)")
NO_TRAINING = only("int", 0, remedy="export the model for inference (eval mode)")
IN_TRAINING = "it has a meaning in training alone"
INDICES = unused("int", "it orders the second output, which is refused")
INTERPOLATED = only("string", "nearest", "linear", remedy="train and export it with one of these")
BLOCK_ORDER = only("string", "DCR", "CRD", remedy="export it with one of these")
CUBIC = unused("float", "it is about cubic interpolation, which is refused")
CROPS = "it is about tf_crop_and_resize, which is refused"
RESIZED = {
    "mode": INTERPOLATED,
    "coordinate_transformation_mode": only(
        "string",
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_half_pixel_for_nn",
        remedy="resize the whole map, with asymmetric",
    ),
    "nearest_mode": only(
        "string", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil", remedy="use floor"
    ),
    "exclude_outside": only("int", 0, remedy="leave it out; it is about cubic interpolation"),
    "cubic_coeff_a": CUBIC,
    "extrapolation_value": unused("float", CROPS),
}
STRETCHED = {
    "axes": INTS,
    "antialias": only("int", 0, remedy="leave it out; it is about shrinking by interpolation"),
    "keep_aspect_ratio_policy": only(
        "string", "stretch", remedy="give the size of each side, for one size of image"
    ),
}
DENSE = {"value": TENSOR, "sparse_value": only("tensor", remedy="store the constant densely")}
CONSTANT = {
    **DENSE,
    "value_float": FLOAT,
    "value_floats": FLOATS,
    "value_int": INT,
    "value_ints": INTS,
    "value_string": only("string", remedy="leave texts out of the model"),
    "value_strings": only("string", remedy="leave texts out of the model"),
}
PADDED = only("string", "constant", remedy="pad with a constant, and train with it")
QUANT = {"signed": FLAG, "narrow": FLAG, "rounding_mode": STRING}
MOVED = (21, 23, 24, 25)  # versions that only added types to many operators

TABLE: tuple[Operator, ...] = (
    # quantisers
    row("QuantizeLinear", (10,), "x y_scale y_zero_point?"),
    row("QuantizeLinear", (13,), "x y_scale y_zero_point?", axis=ONE_SCALE),
    row("QuantizeLinear", (19,), "x y_scale y_zero_point?", axis=ONE_SCALE, saturate=TO_INTEGERS),
    row("QuantizeLinear", (21,), "x y_scale y_zero_point?", axis=ONE_SCALE, saturate=TO_INTEGERS,
        block_size=BLOCKS, output_dtype=INT),
    row("QuantizeLinear", (23, 24, 25), "x y_scale y_zero_point?", axis=ONE_SCALE,
        saturate=TO_INTEGERS, block_size=BLOCKS, output_dtype=INT, precision=FLOAT32),
    row("QuantizeLinear", (1,), "x y_scale y_zero_point?", domain=MICROSOFT, axis=ONE_SCALE),
    row("DequantizeLinear", (10,), "x x_scale x_zero_point?", integers=True),
    row("DequantizeLinear", (13, 19), "x x_scale x_zero_point?", integers=True, axis=INT),
    row("DequantizeLinear", (21,), "x x_scale x_zero_point?", integers=True, axis=INT,
        block_size=BLOCKS),
    row("DequantizeLinear", (23, 24, 25), "x x_scale x_zero_point?", integers=True, axis=INT,
        block_size=BLOCKS, output_dtype=FLOAT32_DATA),
    row("DequantizeLinear", (1,), "x x_scale x_zero_point?", domain=MICROSOFT, integers=True,
        axis=INT),
    row("Quant", (1,), "x scale zeropt bitwidth", domain=QONNX, shared=QUANT),
    row("IntQuant", (1,), "x scale zeropt bitwidth", domain=QONNX, shared=QUANT),
    row("BipolarQuant", (1,), "x scale", domain=QONNX),
    row("Trunc", (1,), "x scale zeropt in_bitwidth out_bitwidth", domain=QONNX,
        rounding_mode=STRING),
    row("Trunc", (2,), "x scale zeropt in_bitwidth out_scale out_bitwidth", domain=QONNX,
        rounding_mode=STRING, signed=FLAG, narrow=FLAG),
    # convolutions and matrices
    row("Conv", (1, 11, 22), "X W B?", maps=True, shared=CONV),
    row("ConvTranspose", (1, 11, 22), "X W B?", maps=True, strides=COUNTS, dilations=COUNTS,
        pads=BORDERS, kernel_shape=COUNTS, group=replace(INT, low=1), output_padding=BORDERS,
        auto_pad=only("string", "NOTSET", remedy="export the model with pads"),
        output_shape=only("ints", remedy="give pads and output_padding instead")),
    row("QLinearConv", (10,),
        "x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point B?", integers=True,
        maps=True, shared=CONV),
    row("ConvInteger", (10,), "x w x_zero_point? w_zero_point?", integers=True, maps=True,
        shared=CONV),
    row("Gemm", (7, 9), "A B C", alpha=FLOAT, beta=FLOAT, transA=FLAG, transB=FLAG),
    row("Gemm", (11, 13), "A B C?", alpha=FLOAT, beta=FLOAT, transA=FLAG, transB=FLAG),
    row("MatMul", (1, 9, 13), "A B"),
    row("QLinearMatMul", (10, 21),
        "a a_scale a_zero_point b b_scale b_zero_point y_scale y_zero_point", integers=True),
    row("QGemm", (1,), "A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point?",
        domain=MICROSOFT, integers=True, alpha=only("float", 1.0, remedy="fold it into b_scale"),
        transA=FLAG, transB=FLAG),
    row("MatMulInteger", (10,), "A B a_zero_point? b_zero_point?", integers=True),
    row("BatchNormalization", (7,), "X scale B mean var", epsilon=FLOAT,
        momentum=unused("float", IN_TRAINING),
        spatial=only("int", 1, remedy="export it with operator set 9 or later")),
    row("BatchNormalization", (9,), "X scale B mean var", epsilon=FLOAT,
        momentum=unused("float", IN_TRAINING)),
    row("BatchNormalization", (14, 15), "X scale B input_mean input_var", epsilon=FLOAT,
        momentum=unused("float", IN_TRAINING), training_mode=NO_TRAINING),
    # windows and places
    row("MaxPool", (1,), "X", integers=True, maps=True, shared=POOL),
    row("MaxPool", (8,), "X", integers=True, maps=True, storage_order=INDICES, shared=POOL),
    row("MaxPool", (10, 11, 12, 22), "X", integers=True, maps=True, storage_order=INDICES,
        ceil_mode=FLAG, dilations=COUNTS, shared=POOL),
    row("AveragePool", (7,), "X", maps=True, shared=SAMPLED),
    row("AveragePool", (10, 11), "X", maps=True, ceil_mode=FLAG, shared=SAMPLED),
    row("AveragePool", (19, 22), "X", maps=True, ceil_mode=FLAG, dilations=COUNTS, shared=SAMPLED),
    row("GlobalAveragePool", (1, 22), "X", maps=True),
    row("ReduceMean", (1, 11, 13), "data", maps=True, axes=INTS, keepdims=FLAG),
    row("ReduceMean", (18,), "data axes?", maps=True, keepdims=FLAG, noop_with_empty_axes=FLAG),
    row("QLinearAveragePool", (1,), "X x_scale x_zero_point? y_scale y_zero_point?",
        domain=MICROSOFT, integers=True, maps=True, channels_last=FIRST, ceil_mode=FLAG,
        shared=SAMPLED),
    row("QLinearGlobalAveragePool", (1,), "X x_scale x_zero_point y_scale y_zero_point",
        domain=MICROSOFT, integers=True, maps=True, channels_last=FIRST),
    row("Resize", (10,), "X scales", integers=True, maps=True, mode=INTERPOLATED),
    row("Resize", (11,), "X roi scales sizes?", reasons={"roi": CROPS}, integers=True, maps=True,
        shared=RESIZED),
    row("Resize", (13,), "X roi? scales? sizes?", reasons={"roi": CROPS}, integers=True,
        maps=True, shared=RESIZED),
    row("Resize", (18, 19), "X roi? scales? sizes?", reasons={"roi": CROPS}, integers=True,
        maps=True, shared=RESIZED | STRETCHED),
    row("Upsample", (7,), "X", integers=True, maps=True, mode=INTERPOLATED,
        scales=replace(FLOATS, required=True)),
    row("Upsample", (9,), "X scales", integers=True, maps=True, mode=INTERPOLATED),
    row("Upsample", (10,), "X scales", mode=INTERPOLATED,
        refused="it must be Resize from operator set 10 on; export the model anew."),
    row("Pad", (2,), "data", integers=True, maps=True, mode=PADDED,
        pads=replace(INTS, required=True), value=BOUND),
    row("Pad", (11, 13), "data pads constant_value?", integers=True, maps=True, mode=PADDED),
    row("Pad", (18, 19, *MOVED), "data pads constant_value? axes?", integers=True, maps=True,
        mode=PADDED),
    # sums, scalings, bounds, functions
    *(row(kind, (7, 13, 14), "A B") for kind in ("Add", "Sub", "Mul", "Div")),
    *(row(kind, (1,), "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point?",
          domain=MICROSOFT, integers=True) for kind in ("QLinearAdd", "QLinearMul")),
    row("Concat", (4, 11, 13), "inputs*", integers=True, axis=replace(INT, required=True)),
    row("QLinearConcat", (1,), "Y_scale Y_zero_point inputs*", domain=MICROSOFT, integers=True,
        axis=replace(INT, required=True)),
    row("Relu", (6, 13, 14), "X"),
    row("Clip", (6,), "input", integers=True, min=BOUND, max=BOUND),
    row("Clip", (11, 12, 13), "input min? max?", integers=True),
    row("LeakyRelu", (6, 16), "X", alpha=FLOAT),
    row("PRelu", (7, 9, 16), "X slope"),
    row("HardSigmoid", (6, 22), "X", alpha=FLOAT, beta=FLOAT),
    row("Elu", (6, 22), "X", alpha=FLOAT),
    *(row(kind, (6, 13), "X") for kind in ("Sigmoid",)),
    *(row(kind, (6, 13), "input") for kind in ("Tanh", "Exp")),
    *(row(kind, (6, 13), "X") for kind in ("Sqrt", "Abs")),
    row("HardSwish", (14, 22), "X"),
    row("Softplus", (1, 22), "X"),
    row("QLinearSigmoid", (1,), "X X_scale X_zero_point? Y_scale Y_zero_point?", domain=MICROSOFT,
        integers=True),
    row("QLinearLeakyRelu", (1,), "X X_scale X_zero_point? Y_scale Y_zero_point?",
        domain=MICROSOFT, integers=True, alpha=FLOAT),
    # shapes and constants
    row("Constant", (1, 9), "", value=TENSOR),
    row("Constant", (11,), "", shared=DENSE),
    row("Constant", (12, 13, 19, *MOVED), "", shared=CONSTANT),
    row("Identity", (1, 13, 14, 16, 19, *MOVED), "input", integers=True),
    row("Dropout", (7, 10), "data", ratio=unused("float", IN_TRAINING)),
    row("Dropout", (12, 13, 22), "data ratio? training_mode?", reasons={"ratio": IN_TRAINING},
        seed=unused("int", IN_TRAINING)),
    row("Shape", (1, 13), "data", integers=True),
    row("Shape", (15, 19, *MOVED), "data", integers=True, start=INT, end=INT),
    row("Flatten", (1, 9, 11, 13, *MOVED), "input", integers=True, axis=INT),
    row("Reshape", (5, 13), "data shape", integers=True),
    row("Reshape", (14, 19, *MOVED), "data shape", integers=True, allowzero=FLAG),
    row("Transpose", (1, 13, *MOVED), "data", integers=True, perm=INTS),
    row("Slice", (1,), "data", integers=True, axes=INTS, starts=replace(INTS, required=True),
        ends=replace(INTS, required=True)),
    row("Slice", (10, 11, 13), "data starts ends axes? steps?", integers=True),
    row("Split", (2, 11), "input", integers=True, axis=INT, split=INTS),
    row("Split", (13,), "input split?", integers=True, axis=INT),
    row("Split", (18,), "input split?", integers=True, axis=INT, num_outputs=replace(INT, low=1)),
    row("Gather", (1, 11, 13), "data indices", integers=True, axis=INT),
    row("SpaceToDepth", (1, 13), "input", integers=True, maps=True,
        blocksize=replace(INT, low=1, required=True)),
    row("DepthToSpace", (1,), "input", integers=True, maps=True,
        blocksize=replace(INT, low=1, required=True)),
    row("DepthToSpace", (11, 13), "input", integers=True, maps=True, mode=BLOCK_ORDER,
        blocksize=replace(INT, low=1, required=True)),
    row("Squeeze", (1, 11), "data", integers=True, axes=INTS),
    row("Squeeze", (13, *MOVED), "data axes?", integers=True),
    row("Unsqueeze", (1, 11), "data", integers=True, axes=replace(INTS, required=True)),
    row("Unsqueeze", (13, *MOVED), "data axes", integers=True),
)  # fmt: skip
