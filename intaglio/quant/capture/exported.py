"""torch.export of a module: its graph, the names of its results, and why it cannot be exported."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from intaglio.errors import ModelError
from intaglio.ops import Shape
from intaglio.quant.capture.duplicate import duplicate
from intaglio.quant.capture.replay import BATCH

TOO_SMALL = ("Kernel size can't be greater", "Output size is too small")


def export(model: nn.Module, shape: Shape) -> ExportedProgram:
    """torch.export on two images, with its failures in one sentence. What forward stores on the
    model stays there: give a copy."""
    untouched = duplicate(model)
    try:
        with warnings.catch_warnings(), torch.no_grad(), quiet():
            warnings.simplefilter("ignore")
            return torch.export.export(model, (torch.zeros(BATCH, *shape),))
    except ModelError:
        raise  # of a network that was read from a file
    except Exception as error:  # torch.export documents no common base of what it raises
        raise reason(untouched, shape, error) from error


def reason(model: nn.Module, shape: Shape, error: Exception) -> ModelError:
    """Why a model cannot be exported, and what to do."""
    kind, said = type(model).__name__, first_line(error)
    channels, height, width = shape
    found = re.search(r"to have (\d+) channels, but got (\d+) channels", str(error))
    if found and int(found[2]) == channels and runs(model, 1, (int(found[1]), height, width)):
        plural = "" if found[1] == "1" else "s"
        return ModelError(
            f"Images must have {found[1]} channel{plural} for {kind}, not {channels}: picture files"
            f" are read as RGB, or as one channel where all are grey; write others as .npy of uint8"
            f" ({found[1]}, H, W)."
        )
    empty = next((name for name, p in model.named_parameters() if p.numel() == 0), None)
    if empty is not None:
        return ModelError(
            f"Parameter {empty!r} must have values, not none; remove its layer, which has no"
            " channels."
        )
    if any(words in said for words in TOO_SMALL) and runs(model, 1, (channels, 64, 64)):
        return ModelError(
            f"Images must be larger than {height}x{width} for {kind}, not: {said}; give larger"
            " ones, or --size."
        )
    if runs(model, 1, shape) and not runs(model, BATCH, shape):
        return ModelError(
            f"{kind} must take any number of images at once, not 1 alone: {said}; write x.shape[0]"
            " where forward gives 1 as the number of images."
        )
    if "fake tensor in the exported program" in said:
        return ModelError(
            f"{kind} must be exportable by torch.export, which cannot follow .data; use detach()"
            " instead, or leave it out."
        )
    return ModelError(
        f"{kind} must be exportable by torch.export on {BATCH} images of shape {shape}, not:"
        f" {said}; quantise the part that returns the raw maps, without decoding or control flow"
        " that depends on the data."
    )


def first_line(error: Exception) -> str:
    """What an error says first."""
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__).rstrip(".")


def runs(model: nn.Module, count: int, shape: Shape) -> bool:
    """Whether a copy of the model takes so many images."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            duplicate(model)(torch.zeros(count, *shape))
    except Exception:  # the user's own code
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.export prints whole graphs to stderr, and logs tracebacks, when it fails; so does what
    runs a network without values."""
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


def constants(
    exported: ExportedProgram,
) -> tuple[dict[fx.Node, str], dict[fx.Node, torch.Tensor]]:
    """Names and values of parameters, buffers and constant tensors by placeholder; one name for
    each tied parameter."""
    signature = exported.graph_signature
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    names, values = {}, {}
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
        names[node] = first.setdefault(key, path) if tensor.numel() else path
        values[node] = tensor.detach()
    return names, values
