"""Archives of torch.export (.pt2) as a torch module, read without torch's own reader.

torch.export.load unpickles what an archive says must be, and evaluates its expressions: it is for
files of one's own. Here the graph is read as the JSON that it is, its calls are looked up among
operations that are known, and weights are the bytes that lie in the archive. What needs a pickle
is read as tensors alone (`weights_only`), or refused.
"""

from __future__ import annotations

import io
import json
import operator
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import nn

from intaglio.errors import ModelError
from intaglio.floats.network import Call, FileNetwork, Operator
from intaglio.quant.capture.aten import REMEDIES, TRANSLATIONS
from intaglio.quant.capture.cutting import DECODING, LAYERS, PRODUCTS

TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
MAKING = frozenset(
    {
        "arange", "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros",
        "new_ones", "new_full", "lift_fresh_copy", "sym_size", "meshgrid", "where", "to",
        "_to_copy", "floor_divide", "remainder", "linspace", "scalar_tensor", "eq", "gt", "lt",
        "ge", "le", "ne", "floor", "ceil", "round", "bitwise_and", "logical_and", "logical_not",
        "cumsum", "flip", "roll", "numel", "item", "unfold", "im2col", "sin", "cos",
        "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "upsample_bilinear2d",
    }
)  # fmt: skip
KNOWN = frozenset(TRANSLATIONS) | frozenset(REMEDIES) | DECODING | LAYERS | {*PRODUCTS} | MAKING
WORDS = ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ge", "gt", "le", "lt")
PYTHON = {f"_operator.{word}": getattr(operator, word) for word in WORDS}
IGNORED = ("torch.ops.aten._assert", "torch.ops.aten.sym_constrain", "torch._check")
RESHAPING = ("view", "reshape", "_unsafe_view", "expand")
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
LARGEST = 1 << 28  # values of a tensor, bytes of the graph
DAMAGE = (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError,
          BadZipFile, OSError, EOFError, OverflowError, NotImplementedError)  # fmt: skip


@dataclass(frozen=True)
class Ref:
    """A tensor or a number of the graph, by name."""

    name: str


def pt2_network(path: Path) -> FileNetwork:
    """The module of an archive. Raises ModelError for one that is damaged, or that holds what no
    reader of tensors reads."""
    try:
        with ZipFile(path) as archive:
            return Archive(path, archive).network()
    except ModelError:
        raise
    except Exception as error:  # torch's reader of tensors alone raises a class that it hides
        if not isinstance(error, DAMAGE) and "weights_only" not in str(error).lower():
            raise
        raise ModelError(
            f"{path} must be a whole archive of torch.export.save, not a damaged or older one; save"
            " it anew."
        ) from error


class Archive:
    """The parts of a file."""

    def __init__(self, path: Path, archive: ZipFile) -> None:
        self.path, self.archive = path, archive
        self.names = {name.partition("/")[2]: name for name in archive.namelist()}
        self.names |= {name: name for name in archive.namelist()}
        whole = sum(info.file_size for info in archive.infolist())
        packed = any(info.compress_type != ZIP_STORED for info in archive.infolist())
        if packed or whole > path.stat().st_size:
            raise ModelError(f"{path} must be an archive as torch.export.save writes it.")

    def read(self, name: str) -> bytes:
        """One part."""
        return self.archive.read(self.names[name])

    def network(self) -> FileNetwork:
        """The program's calls with its weights."""
        models = [n for n in self.names if re.fullmatch(r"models/\w+\.json", n)]
        if models:
            (name,) = models
            model = name.removeprefix("models/").removesuffix(".json")
            program, state = self.json(name), self.tensors(model)
        else:
            program = self.json("serialized_exported_program.json")
            state = {
                key: value
                for part in ("serialized_state_dict.pt", "serialized_constants.pt")
                if part in self.names
                for key, value in unpickled(self.read(part)).items()
            }
        return Reader(self.path, program, state).network()

    def json(self, name: str) -> dict[str, Any]:
        """A part that is JSON."""
        data = self.read(name)
        if len(data) > LARGEST:
            raise ModelError(f"{self.path} must have a graph of at most {LARGEST:,} bytes.")
        found: dict[str, Any] = json.loads(data)
        return found

    def tensors(self, model: str) -> dict[str, torch.Tensor]:
        """Weights and constants by name."""
        found = {}
        for folder, config in (
            ("data/weights/", f"data/weights/{model}_weights_config.json"),
            ("data/constants/", f"data/constants/{model}_constants_config.json"),
        ):
            entries = self.json(config)["config"] if config in self.names else {}
            for name, entry in entries.items():
                data = self.read(folder + entry["path_name"])
                found[name] = (
                    only_tensor(unpickled(data)) if entry["use_pickle"]
                    else raw(data, entry["tensor_meta"])
                )  # fmt: skip
        return found


def unpickled(data: bytes) -> Any:
    """Tensors alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def only_tensor(value: Any) -> torch.Tensor:
    """Raises ValueError for anything else."""
    if not isinstance(value, torch.Tensor):
        raise ValueError("a constant must be a tensor")
    return value


def raw(data: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    """A tensor of bytes."""
    sizes, strides = ([int(v["as_int"]) for v in meta[key]] for key in ("sizes", "strides"))
    if not data or prod(sizes) > len(data) or min(sizes, default=1) < 0:
        raise ValueError("sizes must be those of the bytes")
    flat = torch.frombuffer(bytearray(data), dtype=DTYPES[meta["dtype"]])
    return flat.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"])).clone()


class Pt2Operator(Operator):
    """One call: an operation, its arguments by name, and those of them that are weights."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], weights: Mapping[str, nn.Parameter],
        inputs: tuple[str, ...], batch: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.target, self.arguments, self.inputs, self.batch = target, arguments, inputs, batch
        self.places: dict[str, str] = {}
        for name, weight in weights.items():
            place = next((k for k, v in arguments.items() if v == Ref(name)), "constant")
            while hasattr(self, place):
                place += "_"
            self.register_parameter(place, weight)
            self.places[name] = place

    def forward(self, *given: Any) -> Any:
        """The operation's results."""
        values = dict(zip(self.inputs, given, strict=True))
        values |= {name: getattr(self, place) for name, place in self.places.items()}
        arguments = {name: filled(value, values) for name, value in self.arguments.items()}
        if self.target in PYTHON.values():
            return self.target(*arguments.values())
        sizes = next((arguments[k] for k in ("size", "shape") if k in arguments), None)
        if self.batch is not None and sizes and sizes[0] == self.batch:
            key = "size" if "size" in arguments else "shape"
            arguments[key] = [arguments["self"].shape[0], *sizes[1:]]
        return self.target(**arguments)


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """An argument with what its names stand for."""
    if isinstance(value, Ref):
        return values[value.name]
    return [filled(each, values) for each in value] if isinstance(value, list) else value


class Reader:
    """The graph's JSON to calls."""

    def __init__(
        self, path: Path, program: Mapping[str, Any], state: Mapping[str, torch.Tensor]
    ) -> None:
        self.path = path
        self.graph = program["graph_module"]["graph"]
        self.signature = program["graph_module"]["signature"]
        self.state = state
        self.weights: dict[str, nn.Parameter] = {}
        self.known: dict[str, Any] = {}
        self.images: list[str] = []

    def network(self) -> FileNetwork:
        """Every call, in order."""
        for spec in self.signature["input_specs"]:
            ((kind, entry),) = spec.items()
            if kind == "user_input":
                self.images.append(entry["arg"]["as_tensor"]["name"])
                continue
            path = next((v for k, v in entry.items() if k.endswith("_name")), None)
            if path is None or path not in self.state:
                raise ModelError(
                    f"{self.path} must have tensors alone as its weights and constants, not"
                    f" {kind}; export the part that returns the maps."
                )
            self.keep(entry["arg"]["name"], self.state[path])
        if len(self.images) != 1:
            raise ModelError(
                f"{self.path} must have one input, the image, not {len(self.images)}; export the"
                " part that reads the image."
            )
        (image,) = self.images
        sides = self.sides(image)
        if len(sides) != 4:
            raise ModelError(
                f"{self.path}: its input must be N x C x H x W, not of {len(sides)} dimensions;"
                " export it so."
            )
        batch, channels, height, width = sides
        calls = [call for node in self.graph["nodes"] for call in self.calls(node, batch)]
        outputs = [
            spec["user_output"]["arg"]["as_tensor"]["name"]
            for spec in self.signature["output_specs"]
            if "user_output" in spec and "as_tensor" in spec["user_output"]["arg"]
        ]
        return FileNetwork(
            calls, image, {f"out{n}": name for n, name in enumerate(outputs)}, self.known,
            input_size=(height, width) if height and width else None, channels=channels,
        )  # fmt: skip

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        """A weight, or a constant of integers."""
        if tensor.is_floating_point():
            self.weights[name] = nn.Parameter(tensor.detach().float(), requires_grad=False)
        else:
            self.known[name] = tensor

    def sides(self, name: str) -> list[int | None]:
        """The sizes of a tensor; None for one that is not fixed."""
        return [v.get("as_int") for v in self.graph["tensor_values"][name]["sizes"]]

    def calls(self, node: Mapping[str, Any], batch: int | None) -> list[tuple[str, Call]]:
        """A node as a call; none of an assertion."""
        word = node["target"]
        if word.startswith(IGNORED):
            return []
        target, op = self.target(word)
        arguments = {each["name"] or str(n): argument(each["arg"]) for n, each in
                     enumerate(node["inputs"])}  # fmt: skip
        names = list(dict.fromkeys(references(list(arguments.values()))))
        weights = {name: self.weights[name] for name in names if name in self.weights}
        inputs = tuple(name for name in names if name not in weights)
        reads = next((v.name for v in arguments.values() if isinstance(v, Ref)), "")
        first = self.sides(reads)[:1] if reads in self.graph["tensor_values"] else []
        batched = batch if op in RESHAPING and first == [batch] else None
        operator = Pt2Operator(target, arguments, weights, inputs, batched)
        outputs = tuple(results(node["outputs"]))
        return [(self.name(node, op), Call(operator, inputs, outputs))]

    def target(self, word: str) -> tuple[Any, str]:
        """The operation of a name, and its name alone. Raises ModelError for unknown ones."""
        if word in PYTHON:
            return PYTHON[word], word
        found = TARGET.fullmatch(word)
        op = found[1].rstrip("_") if found else ""
        packet = getattr(torch.ops.aten, found[1], None) if found and op in KNOWN else None
        overload = getattr(packet, found[2], None) if found and packet is not None else None
        if not isinstance(overload, torch._ops.OpOverload):
            raise ModelError(
                f"{self.path}: its operations must be those of a convolutional network, not"
                f" {word[:80]!r}; export the part that returns the maps, before decoding."
            )
        return overload, op

    def name(self, node: Mapping[str, Any], op: str) -> str:
        """The path of the layer that makes a call; that of the module around it, and the
        operation."""
        stack = (node.get("metadata") or {}).get("nn_module_stack") or ""
        parts = stack.split(";")[-1].split(",")
        if len(parts) < 3 or not parts[1]:
            return str(node["outputs"][0].get("as_tensor", {}).get("name", op))
        path = re.sub(r"@\d+", "", parts[1])
        return path if parts[2].startswith("torch.nn.modules.") else f"{path}.{op}"


def argument(found: Mapping[str, Any]) -> Any:
    """One argument of a call. Raises ValueError for what no operation of ours takes."""
    ((kind, value),) = found.items()
    match kind:
        case "as_none" | "as_device" | "as_layout" | "as_memory_format":
            return None
        case "as_tensor":
            return Ref(value["name"])
        case "as_tensors":
            return [Ref(each["name"]) for each in value]
        case "as_optional_tensors":
            return [argument(each) for each in value]
        case "as_optional_tensor":
            return argument(value)
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            ((way, each),) = value.items()
            return Ref(each) if way == "as_name" else each
        case "as_sym_ints" | "as_sym_floats":
            return [argument({"as_sym_int": each}) for each in value]
        case "as_scalar_type":
            return DTYPES[value]
        case "as_int" | "as_ints" | "as_float" | "as_floats" | "as_bool" | "as_bools" | "as_string":
            return value
    raise ValueError(f"{kind} is no argument")


def references(value: Any) -> list[str]:
    """Names in arguments, in order."""
    if isinstance(value, Ref):
        return [value.name]
    return [n for each in value for n in references(each)] if isinstance(value, list) else []


def results(outputs: list[Mapping[str, Any]]) -> list[str]:
    """Names of what a call makes, one after the other."""
    found = []
    for output in outputs:
        ((kind, value),) = output.items()
        if kind == "as_tensors":
            found += [each["name"] for each in value]
        elif kind in ("as_tensor", "as_optional_tensor") and "name" in value:
            found.append(value["name"])
        elif kind in ("as_sym_int", "as_sym_bool", "as_sym_float") and "as_name" in value:
            found.append(value["as_name"])
        else:
            found.append("")
    return found
