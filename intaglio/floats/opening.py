"""A float network's file opened: by the reader that it needs, and held against its own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from intaglio.errors import ModelError
from intaglio.floats.kinds import kind_of, remedy
from intaglio.floats.network import FileNetwork, check_size, measure


def open_network(
    path: Path, outputs: Sequence[str] = (), size: tuple[int, int] | None = None
) -> FileNetwork:
    """The module of a float .onnx or .pt2 file. ONNX is compared with onnxruntime, on an image of
    `size` where the file takes several; `outputs` are tensors of it, where it is to end.

    Raises ModelError with what to do for files of other kinds, and where tensors differ.
    """
    kind = kind_of(path)
    if kind == "onnx":
        from intaglio.floats.onnx_network import onnx_network

        network = onnx_network(path, outputs)
    elif kind == "pt2":
        from intaglio.floats.pt2 import pt2_network

        network = pt2_network(path)
    else:
        raise ModelError(f"MODEL must be a float network, not {path}, {remedy(path, kind)}.")
    check_size(network, size, str(path))
    side = network.input_size or size
    if side is None or network.channels is None:
        return network
    shape = (network.channels, *side)
    try:
        measure(network, shape)
    except ModelError:
        raise
    except Exception as error:  # torch's, of any kind
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{path} must run on an image of {side[0]}x{side[1]}, not stop: {said}; export it anew."
        ) from error
    if kind == "onnx" and not network.notes:
        from intaglio.floats.compared import compared

        network.notes = (compared(path, network, shape),)
    return network


def shape_of(network: nn.Module, size: tuple[int, int] | None, path: Path) -> tuple[int, int, int]:
    """(C, H, W) of a network's image. Raises ModelError where the file leaves its size open and
    none is given."""
    side = getattr(network, "input_size", None) or size
    if side is None:
        raise ModelError(f"--size must be given for {path}, which takes images of several sizes.")
    return getattr(network, "channels", None) or 3, *side
