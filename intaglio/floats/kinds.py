"""What a file is that somebody calls MODEL, by its first bytes, and what to do with each kind."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from intaglio.errors import ModelError
from intaglio.exchange.from_tflite.magic import is_tflite

ENDINGS = (
    ".onnx", ".pt2", ".tflite", ".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".weights", ".cfg",
    ".h5", ".keras", ".pb", ".mlmodel", ".engine", ".xml", ".param", ".torchscript", ".caffemodel",
)  # fmt: skip
BY_ENDING = {
    ".weights": "darknet's weights",
    ".cfg": "darknet's description",
    ".h5": "a file of Keras",
    ".keras": "a file of Keras",
    ".pb": "a graph of TensorFlow",
    ".mlmodel": "a file of Core ML",
    ".engine": "an engine of TensorRT",
    ".xml": "a file of OpenVINO",
    ".param": "a file of ncnn",
    ".caffemodel": "a file of Caffe",
}
FACTORY = (
    "give the network's class as package.module:factory, with the file of its state_dict() as"
    " --weights, or export it (torch.onnx.export, torch.export.save) and give that file"
)
EXPORT = "convert it to float ONNX, and give that file"


def is_file(reference: str) -> bool:
    """Whether a MODEL means a file."""
    return Path(reference).is_file() or reference.lower().endswith(ENDINGS)


def kind_of(path: Path) -> str:
    """ "onnx", "pt2", or what else a file is, in words. Raises ModelError where there is none."""
    if not path.is_file():
        raise ModelError(f"{path} must be an existing file.")
    with path.open("rb") as file:
        start = file.read(16)
    if is_tflite(path):
        return "a TFLite file"
    if path.suffix.lower() in BY_ENDING:
        return BY_ENDING[path.suffix.lower()]
    if start[:4] == b"PK\x03\x04":
        return kind_of_archive(path)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return "a pickle of torch"
    if start[8:10] == b'{"' and start[4:8] == bytes(4):
        return "a state dict"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "a file of Keras"
    return "onnx"


def kind_of_archive(path: Path) -> str:
    """What a zip file is."""
    try:
        with ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return "pt2" if path.suffix == ".pt2" else "a damaged archive"
    if "archive_format" in names or "serialized_exported_program.json" in archive.namelist():
        return "pt2"
    if any(name.startswith("code/") for name in names):
        return "TorchScript"
    return "a pickle of torch" if "data.pkl" in names else "an archive of another program"


def remedy(path: Path, kind: str) -> str:
    """What a file is, and what to do."""
    match kind:
        case "a TFLite file":
            return (
                f"{kind}: if it is quantised, use `intaglio import {path} -o MODEL.intaglio`; if it"
                " is float, give the ONNX file that it was made from"
            )
        case "TorchScript":
            return f"{kind}; {FACTORY}"
        case "a pickle of torch":
            return f"a pickle of torch, whose reading could run anything in it; {FACTORY}"
        case "a state dict":
            return (
                f"{kind}, which has no network; give that as package.module:factory, and the"
                f" file as --weights {path}"
            )
    return f"{kind}; {EXPORT}"


def not_imported(path: Path, kind: str) -> ModelError:
    """Why `import` does not take a file that is no quantised ONNX or TFLite."""
    if kind == "pt2":
        return ModelError(
            f"FILE must be a quantised network, not {path}, an archive of torch.export: use"
            f" `intaglio quantize {path} --images DIR -o MODEL.intaglio`."
        )
    return ModelError(f"FILE must be quantised ONNX or TFLite, not {path}, {remedy(path, kind)}.")


def check_weights(path: Path) -> None:
    """Raises ModelError for a whole network that is given as a state dict."""
    kind = kind_of(path) if path.is_file() else "onnx"
    if kind in ("TorchScript", "pt2", "a TFLite file"):
        word = "an archive of torch.export" if kind == "pt2" else kind
        raise ModelError(
            f"{path} must be a state dict, as torch.save(model.state_dict(), FILE) writes it, not"
            f" {word}; save that of the model it was made from."
        )
