"""torch.export of a model's dense part, translated to a `FloatGraph`."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from intaglio.errors import ModelError
from intaglio.ops import Shape
from intaglio.quant.capture.aten import REMEDIES, TRANSLATIONS
from intaglio.quant.capture.graph import Affine, FloatGraph, Image, Node
from intaglio.quant.capture.site import Const, Map, Scope, Site, Value

BATCH = 2  # tells the batch from dimensions of size 1


def capture(model: nn.Module, shape: Shape) -> FloatGraph:
    """The graph of `model` on images of `shape` (C, H, W), pixels 0 to 255.

    The model is given (pixel / 255 - image_mean) / image_std, with its attributes of these names
    (one number or one per channel; 0 and 1 without them). It runs in eval mode on a copy. The graph
    is as written: nothing is folded (`passes.simplify` does that).

    Raises ModelError for parameters that are not finite, for a model that cannot be exported, and
    for an operation without an integer form, naming its module path.
    """
    model = copy.deepcopy(model).cpu().float().eval()
    check_parameters(model)
    exported = export(model, shape)
    names = output_names(exported)
    scope = Scope(set(names))
    image = Image(output=scope.unique("image"), origin="", shape=shape)
    scope.nodes[image.output] = image
    scope.nodes["normalised"] = normalisation(model, image)
    scope.taken.add("normalised")
    values: dict[fx.Node, Value] = dict(constants(exported))
    results: list[Value] = []
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node not in values:
            values[node] = Map("normalised", shape)
        elif node.op == "output":
            results = [fx.map_arg(v, values.__getitem__) for v in node.args[0]]
        elif node.op not in ("placeholder", "output"):
            values[node] = translate(node, values, scope)
    return FloatGraph(tuple(scope.nodes.values()), scope.weights, outputs(names, results))


def check_parameters(model: nn.Module) -> None:
    """Refuse NaN and infinity."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(
                f"Parameter {name!r} must be finite, not NaN or infinite; load other weights."
            )


def export(model: nn.Module, shape: Shape) -> ExportedProgram:
    """torch.export, with its failures in one sentence."""
    try:
        with warnings.catch_warnings(), torch.no_grad(), quiet():
            warnings.simplefilter("ignore")
            return torch.export.export(model, (torch.zeros(BATCH, *shape),))
    except Exception as error:  # torch.export documents no common base of what it raises
        text = str(error).strip()
        reason = text.splitlines()[0] if text else type(error).__name__
        raise ModelError(
            f"{type(model).__name__} must be exportable by torch.export on {BATCH} images of shape"
            f" {shape}, not: {reason.rstrip('.')}; quantise the part that returns the raw maps,"
            " without decoding or control flow that depends on the data."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.export prints whole graphs to stderr, and logs, when it fails."""
    log = logging.getLogger("torch")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


def output_names(exported: ExportedProgram) -> list[str]:
    """`cls.0` for {"cls": [map]}, `out0.1` for a sequence of sequences, `out0` for one map."""
    spec = exported.call_spec.out_spec
    count = len(exported.graph_signature.user_outputs)
    if spec is None or count == 0:
        raise ModelError("The model must return at least one map, not nothing.")
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(list(range(count)), spec))
    names = []
    for path, _ in paths:
        keys = [str(getattr(k, "idx", getattr(k, "key", getattr(k, "name", k)))) for k in path]
        name = ".".join(keys) or "0"
        names.append(name if not name[0].isdigit() else f"out{name}")
    return names


def outputs(names: list[str], results: list[Value]) -> dict[str, str]:
    """The tensor of each result."""
    for name, value in zip(names, results, strict=True):
        if not isinstance(value, Map):
            raise ModelError(
                f"Result {name!r} of the model must be a map that depends on the image."
            )
    return {name: value.name for name, value in zip(names, results, strict=True)}


def normalisation(model: nn.Module, image: Image) -> Affine:
    """(pixel / 255 - mean) / std."""
    channels = image.shape[0]
    mean, std = (
        channel_values(model, name, channels, default)
        for name, default in (("image_mean", 0.0), ("image_std", 1.0))
    )
    if not (std > 0).all():
        raise ModelError(f"image_std of the model must be positive, not {std.tolist()}.")
    return Affine(
        output="normalised",
        origin="",
        shape=image.shape,
        input=image.output,
        scale=1 / (255 * std),
        shift=-mean / std,
    )


def channel_values(
    model: nn.Module, name: str, channels: int, default: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """An attribute of the model as float64 (channels,)."""
    value = np.asarray(getattr(model, name, default), dtype=np.float64).reshape(-1)
    if value.size not in (1, channels) or not np.isfinite(value).all():
        raise ModelError(
            f"{name} of the model must be 1 or {channels} finite numbers, not {value.tolist()}."
        )
    return np.broadcast_to(value, (channels,)).copy()


def constants(exported: ExportedProgram) -> dict[fx.Node, Const]:
    """Parameters, buffers and constant tensors by placeholder; one name per tied parameter."""
    signature = exported.graph_signature
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    names: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    found = {}
    for node in exported.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in paths:
            path = paths[node.name]
            stored = exported.state_dict.get(path)
            tensor = exported.constants[path] if stored is None else stored
        elif node.name in lifted:
            path, tensor = lifted[node.name], exported.constants[lifted[node.name]]
        else:
            continue
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        name = names.setdefault(key, path) if tensor.numel() else path
        found[node] = Const(tensor.detach(), name)
    return found


def translate(node: fx.Node, values: dict[fx.Node, Value], scope: Scope) -> Value:
    """The value of one call: a map, a constant where no operand is a map, or a tuple."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return python_call(node, values)
    schema = node.target._schema
    args = bind(node, values)
    result = node.meta.get("val")
    if not any(has_map(v) for v in args.values()):
        return constant_call(node, values)
    if result is None:
        return None  # an assertion that export wrote down
    base = schema.name.split("::")[1]
    op = base.rstrip("_")
    origin, is_layer = module_path(node)
    shape = tuple((result[0] if isinstance(result, (tuple, list)) else result).shape)
    name = origin if is_layer else f"{origin}.{op}".lstrip(".")
    site = Site(op, origin, scope.unique(name), args, node.target, shape, scope)
    if op not in TRANSLATIONS:
        remedy = REMEDIES.get(
            op, "it has no integer form; replace it, or return the map before it."
        )
        raise site.refuse(remedy)
    made = placed(TRANSLATIONS[op](site), scope, len(shape) == 2)
    if base.endswith("_") and isinstance(node.args[0], fx.Node):
        values[node.args[0]] = made  # an in-place call: later readers see the result
    return made


def placed(value: Value, scope: Scope, flat: bool) -> Value:
    """New nodes join the graph and become maps."""
    if isinstance(value, tuple):
        return tuple(placed(v, scope, flat) for v in value)
    if isinstance(value, Node):
        scope.nodes[value.output] = value
        return Map(value.output, value.shape, flat)
    return value


def bind(node: fx.Node, values: dict[fx.Node, Value]) -> dict[str, Any]:
    """Arguments by their schema names, defaults filled in, nodes replaced by values."""
    assert isinstance(node.target, torch._ops.OpOverload)
    bound = {}
    for i, argument in enumerate(node.target._schema.arguments):
        given: Any = argument.default_value if argument.has_default_value() else None
        if i < len(node.args):
            given = node.args[i]
        given = node.kwargs.get(argument.name, given)
        bound[argument.name] = fx.map_arg(given, values.__getitem__)
    return bound


def has_map(value: Value) -> bool:
    """Whether a map is in `value`."""
    if isinstance(value, (tuple, list)):
        return any(has_map(v) for v in value)
    return isinstance(value, Map)


def constant_call(node: fx.Node, values: dict[fx.Node, Value]) -> Value:
    """Run a call on constants alone (weight standardisation, folded buffers)."""

    def tensor(n: fx.Node) -> Any:
        value = values[n]
        return value.value if isinstance(value, Const) else value

    assert callable(node.target)
    with torch.no_grad():
        result = node.target(*fx.map_arg(node.args, tensor), **fx.map_arg(node.kwargs, tensor))
    if isinstance(result, torch.Tensor):
        return Const(result)
    if isinstance(result, (tuple, list)):
        return tuple(Const(r) if isinstance(r, torch.Tensor) else r for r in result)
    return result


def python_call(node: fx.Node, values: dict[fx.Node, Value]) -> Value:
    """`getitem` of an operation with several results; checks that export adds are constant."""
    args: list[Any] = [fx.map_arg(a, values.__getitem__) for a in node.args]
    if getattr(node.target, "__name__", "") == "getitem" and isinstance(args[0], tuple):
        picked = args[0][args[1]]
        if picked is None and node.users:
            raise ModelError(
                f"Result {args[1]} of {node.args[0]} must not be used; only values can."
            )
        return picked
    if any(has_map(a) for a in args):
        origin, _ = module_path(node)
        raise ModelError(
            f"{node.target} in layer {origin!r}: it has no integer form; replace it, or return the"
            " map before it."
        )
    return constant_call(node, values)


def module_path(node: fx.Node) -> tuple[str, bool]:
    """The path of the innermost module around a call, and whether that is a torch.nn layer."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", False
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return re.sub(r"@\d+", "", path), kind.startswith("torch.nn.modules.") and bool(path)
