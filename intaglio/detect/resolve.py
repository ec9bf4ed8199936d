"""What a user calls MODEL: a name that is bundled or torchvision's, or `package.module:factory`."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from intaglio.detect import zoo
from intaglio.detect.networks import torchvision
from intaglio.errors import ModelError
from intaglio.system.named import named


def resolve(reference: str, weights: Path | None = None) -> nn.Module:
    """The module in eval mode, on the CPU, with `weights` (a state dict) loaded if given.

    Raises ModelError with one sentence: unknown name, torchvision's without weights, no such module
    or factory, a factory that fails or does not return a module, weights that do not fit.
    """
    if reference in zoo.BUNDLED:
        model: nn.Module = zoo.load(reference)
    elif reference in torchvision.MODELS:
        if weights is None:
            raise ModelError(
                f"{reference} must be given weights, for none are bundled; pass --weights FILE, a"
                " state dict as torchvision stores it."
            )
        model = torchvision.MODELS[reference]()
    elif ":" in reference:
        model = from_factory(reference)
    else:
        raise ModelError(
            f"MODEL must be one of {', '.join([*zoo.BUNDLED, *torchvision.MODELS])}, a .intaglio,"
            f" .onnx or .pt2 file, or package.module:factory, not {reference!r}."
        )
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def from_factory(reference: str) -> nn.Module:
    """Call `package.module:factory`, looked up from the current folder too."""
    factory = named(reference, "MODEL")
    try:
        model = factory()
    except Exception as error:  # the user's own code: whatever it raises is its one-line story
        raise ModelError(
            f"{reference} must return an nn.Module without arguments, but raised"
            f" {type(error).__name__}: {error}."
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{reference} must return an nn.Module, not {type(model).__name__}.")
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict from .safetensors, or from a torch file read without pickled code."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path} must be an existing weights file.") from error
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        reason = str(error) or "it ends too early"
        raise ModelError(
            f"{path} must be a state dict, but reading it failed: {reason}."
        ) from error
    except Exception as error:  # torch reports unsafe pickles with a class it does not export
        raise ModelError(
            f"{path} must be a state dict of tensors alone, as torch.save(model.state_dict(), FILE)"
            " writes it, not another file."
        ) from error
    if not isinstance(state, dict):
        raise ModelError(f"{path} must hold a state dict, not {type(state).__name__}.")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f"{path} must hold tensors by name, not {type(value).__name__} under {name!r}; save"
                " the model's state_dict() alone."
            )
    own = model.state_dict()
    state = torchvision.present_names(state, own.keys())
    for name in own.keys() & state.keys():
        if own[name].shape != state[name].shape:
            raise ModelError(
                f"{path} must fit the model, but {name} is {tuple(state[name].shape)} there and"
                f" {tuple(own[name].shape)} in the model."
            )
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ModelError(
            f"{path} must fit the model: {len(missing)} parameters missing"
            f" ({', '.join(missing[:2]) or 'none'}), {len(unexpected)} unknown"
            f" ({', '.join(unexpected[:2]) or 'none'})."
        )


def digest_of(model: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and bytes of a module's state."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        found.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        found.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
