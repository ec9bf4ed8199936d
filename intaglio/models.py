"""What a user names, opened: networks, data and pictures, as on the command line. No torch is
imported for a Program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError, ModelError
from intaglio.program import Program

if TYPE_CHECKING:
    from torch import nn

    from intaglio.detect.coco import CocoData
    from intaglio.detect.decode import HeadSpec
    from intaglio.detect.own import Head

Size = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """How a float network is read: the `size` (H, W) of its images; `mean` and `std` of pixel /
    255, one value for each channel or for all; and the names of the layers (of the file's tensors,
    where it is ONNX) at which it ends instead of its last ones."""

    size: Size | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    outputs: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.mean or self.std or self.outputs)


AS_IT_IS = Reading()
Model: TypeAlias = "Program | nn.Module | str | Path"


def opened(
    model: Model, weights: str | Path | None = None, reading: Reading = AS_IT_IS
) -> Program | nn.Module:
    """What a name stands for, as on the command line: a bundled or torchvision's detector, a
    `.intaglio` file, the folder of a build, a float .onnx or .pt2 file, or package.module:factory.
    A Program and a module are themselves. `weights` is a state dict. Raises ModelError and what
    reading a file does."""
    if not isinstance(model, (str, Path)):
        return model
    reference = str(model)
    if Path(reference).is_dir():
        reference = f"{reference}/program.intaglio"  # of a build
    if reference.endswith(".intaglio"):
        from intaglio.file import load

        if weights is not None:
            raise ModelError("--weights must go with a torch model, not with a .intaglio file.")
        if reading:
            raise ModelError(
                f"--mean, --std and --outputs must go with a float network, not {reference}, which"
                " is quantised already; leave them out."
            )
        return load(reference)
    return as_read(read_network(reference, weights, reading), reading)


def read_network(reference: str, weights: str | Path | None, reading: Reading) -> nn.Module:
    """The module of a file, or of a name."""
    from intaglio.floats.kinds import is_file

    if ":" in reference or not is_file(reference):
        from intaglio.detect.resolve import resolve
        from intaglio.floats.kinds import check_weights

        if weights is not None:
            check_weights(Path(weights))
        return resolve(reference, None if weights is None else Path(weights))
    from intaglio.floats.opening import open_network

    if weights is not None:
        raise ModelError(
            f"--weights must go with package.module:factory, not with {reference}, which has its"
            " own; leave it out."
        )
    return open_network(Path(reference), tuple(reading.outputs), reading.size).eval()


def as_read(network: nn.Module, reading: Reading) -> nn.Module:
    """The module with the attributes that a reading gives it; it was made for this reading."""
    if reading.mean is not None:
        network.image_mean = tuple(reading.mean)  # type: ignore[assignment]  # no tensor
    if reading.std is not None:
        network.image_std = tuple(reading.std)  # type: ignore[assignment]  # no tensor
    if reading.outputs and not getattr(network, "ends", False):
        network.output_layers = tuple(reading.outputs)  # type: ignore[assignment]  # no tensor
    return network


def to_be_quantised(
    model: Model, weights: str | Path | None = None, reading: Reading = AS_IT_IS
) -> nn.Module:
    """As `opened`, a torch model. Raises ModelError for a Program."""
    found = opened(model, weights, reading)
    if isinstance(found, Program):
        name = model if isinstance(model, (str, Path)) else "a Program"
        raise ModelError(f"MODEL must be a torch model, not {name}, which is quantised already.")
    return found


def places(images: str | Path | Sequence[str | Path]) -> list[Path]:
    """Pictures and folders of them as paths."""
    return [Path(images)] if isinstance(images, (str, Path)) else [Path(one) for one in images]


def coco(data: CocoData | str | Path, images: str | Path | None) -> CocoData:
    """A COCO set, by its file and the folder of its images."""
    from intaglio.detect.coco import CocoData

    if isinstance(data, CocoData):
        return data
    if images is None:
        raise DataError("images must be the folder of the images that data lists, not None.")
    return CocoData(Path(data), Path(images))


def head_of(model: Program | nn.Module, name: str, head: Head | None = None) -> Head:
    """What turns output maps into boxes: `head` if it is given, else the model's own description.

    Raises ModelError without one, and where a Program's outputs are other maps.
    """
    from intaglio.detect.heads.maps import check_shapes
    from intaglio.detect.networks.spec import HeadSpec

    found = head or spec_in(model, name)
    if isinstance(model, Program) and isinstance(found, HeadSpec):
        check_shapes(found, [tensor.shape for tensor in model.outputs])
    return found


def spec_in(model: Program | nn.Module, name: str) -> HeadSpec:
    """The model's own description. Raises ModelError without one."""
    from intaglio.detect.networks.spec import HeadSpec, spec_of

    if isinstance(model, Program):
        text = model.meta.get("head")
        spec = HeadSpec.from_json(text) if text else None
    else:
        spec = spec_of(model)
    if spec is None:
        raise ModelError(
            f"{name} must carry a head description to decode boxes; give the torch model an"
            " attribute `head_spec`, or --head FILE.json, or use `intaglio run --raw`."
        )
    return spec


def head_from(file: Path | None, decode: str | None = None) -> Head | None:
    """What --head, a file that `HeadSpec.to_json` writes, or --decode names; None without either.

    Raises ModelError, one sentence.
    """
    from intaglio.detect.own import OwnDecoder

    if file is not None and decode is not None:
        raise ModelError(
            "--head and --decode must not be given together; leave one out, as both make boxes."
        )
    if decode is not None:
        return OwnDecoder.of(decode)
    return None if file is None else spec_from(file)


def spec_from(file: Path) -> HeadSpec:
    """What --head names: a file that `HeadSpec.to_json` writes. Raises ModelError."""
    from intaglio.detect.networks.spec import HeadSpec

    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"--head {file} must be a JSON file, but: {error}.") from None
    try:
        return HeadSpec.from_json(text)
    except ModelError as error:
        raise ModelError(f"--head {file}: {error}") from None


def input_size(model: Program | nn.Module) -> tuple[int, int] | None:
    """(H, W) that the model is made for, if it says so."""
    if isinstance(model, Program):
        _, height, width = model.inputs[0].shape
        return height, width
    size = getattr(model, "input_size", None)
    return (int(size[0]), int(size[1])) if size is not None else None


def input_channels(model: Program | nn.Module, files: Sequence[Path], size: Size | None) -> int:
    """Channels of pictures as the network reads them: a Program's own; 3, but 1 for a torch model
    that takes one and not three, where all `files` are grey pictures."""
    if isinstance(model, Program):
        return model.inputs[0].shape[0]
    from intaglio.detect.pictures import header, is_array
    from intaglio.quant import float_predictor

    if not all(not is_array(file) and header(file).grey for file in files):
        return 3
    predict, (height, width) = float_predictor(model), size or header(files[0]).size

    def takes(channels: int) -> bool:
        try:
            predict(np.zeros((1, channels, height, width), np.uint8))
        except Exception:  # a module of the user's: whatever it raises, it does not take this
            return False
        return True

    return 1 if not takes(3) and takes(1) else 3


def images_for(
    program: Program, files: Sequence[Path], *, resize: bool = False, quiet: bool = False
) -> NDArray[np.uint8 | np.int8]:
    """Image files (N, C, H, W) as codes of a Program's input; see `detect.images.stack` and
    `detect.pictures.as_codes`."""
    from intaglio.detect.images import stack
    from intaglio.detect.pictures import as_codes

    (x,) = program.inputs
    channels, height, width = x.shape
    pixels = stack(list(files), (height, width), resize=resize, channels=channels, quiet=quiet)
    return as_codes(pixels, x.type)
