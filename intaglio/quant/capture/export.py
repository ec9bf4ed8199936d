"""A model's dense part captured as a `FloatGraph`, and held against the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram

from intaglio.errors import ModelError
from intaglio.ops import Shape
from intaglio.quant.capture.agree import Origin, check_agreement, samples
from intaglio.quant.capture.cutting import Cut, asked, ends
from intaglio.quant.capture.duplicate import duplicate
from intaglio.quant.capture.exported import constants, export, first_line, output_names
from intaglio.quant.capture.graph import Affine, FloatGraph, Floats, Image
from intaglio.quant.capture.replay import Memory, copied, replay
from intaglio.quant.capture.site import Const, Map, Scope, Value
from intaglio.quant.capture.translate import Translation
from intaglio.system.steps import Tell, quiet


def capture(model: nn.Module, shape: Shape, tell: Tell = quiet) -> FloatGraph:
    """The graph of `model` on images of `shape` (C, H, W), pixels 0 to 255.

    The model is given (pixel / 255 - image_mean) / image_std, with its attributes of these names
    (one number or one per channel; 0 and 1 without them). It runs in eval mode on a copy. The graph
    is as written: nothing is folded (`passes.simplify` does that). It ends where the model's
    attribute `output_layers` says (names of layers, or of this graph's tensors); without it in the
    model's results, or at its last layers where decoding is behind them (`cutting`).

    `tell` hears what is done, and of each operation.

    Raises ModelError for parameters that are not finite, for a model that cannot be exported, for
    an operation without an integer form, naming its module path and line, and where the graph does
    not compute on random images what the model does (`agree`).
    """
    wanted = tuple(getattr(model, "output_layers", None) or ())
    model = in_eval(model)
    check_parameters(model)
    tell("export")
    exported = export(duplicate(model), shape)
    names = output_names(exported)
    scope = Scope(set(names))
    image = Image(output=scope.unique("image"), origin="", shape=shape)
    scope.nodes[image.output] = image
    scope.nodes["normalised"] = normal = normalisation(model, image)
    scope.taken.add("normalised")
    pixels = samples(shape)
    x = pixels * per_channel(normal.scale) + per_channel(normal.shift)
    paths, tensors = constants(exported)
    memory, failed = replayed(exported, tensors, x.float())
    own = copied(tensors)  # calls on constants alone may write to them
    values: dict[fx.Node, Value] = {n: Const(own[n], paths[n]) for n in own}
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            values.setdefault(node, Map("normalised", shape))
    translation = Translation(exported.graph, memory, values, scope, lenient=bool(wanted))
    results: list[Value] = []
    for number, node in enumerate(exported.graph.nodes):
        tell("operation", number + 1, len(exported.graph.nodes))
        if node.op == "output":
            results = [translation.result(v) for v in node.args[0]]
        elif node.op != "placeholder":
            translation.call(node)
    if failed is not None:
        raise ModelError(
            f"{type(model).__name__} must run on random images, not stop:"
            f" {first_line(failed)}; mend its forward."
        ) from failed
    if wanted:
        found, gone = asked(wanted, scope, translation.refusal), list[str]()
    else:
        found, gone = ends(names, results, scope)
    is_cut = bool(wanted) or any(isinstance(value, Cut) for value in results)
    words = (*translation.words(gone), *getattr(model, "cut", ()))
    graph = FloatGraph(tuple(scope.nodes.values()), scope.weights, found, words, is_cut)
    tell("comparison with torch")
    check_agreement(graph, Origin(model, exported, tensors, translation.made, pixels, x))
    return graph


def replayed(
    exported: ExportedProgram, tensors: Mapping[fx.Node, torch.Tensor], x: torch.Tensor
) -> tuple[Memory, Exception | None]:
    """Which nodes share memory; none, and why, where an operation stops: it may be one that has a
    sentence of its own."""
    try:
        return replay(exported, tensors, x), None
    except Exception as error:  # torch's, of any kind
        return {}, error


def in_eval(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in float32 and eval mode. Raises ModelError for a scripted one."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "The model must be an nn.Module in Python, not scripted or traced; give the one that it"
            " was made from."
        )
    return duplicate(model).cpu().float().eval()


def per_channel(values: Floats) -> torch.Tensor:
    """(C,) as (C, 1, 1)."""
    return torch.from_numpy(values)[:, None, None]


def check_parameters(model: nn.Module) -> None:
    """Refuse NaN and infinity."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(
                f"Parameter {name!r} must be finite, not NaN or infinite; load other weights."
            )


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
