"""The `.intaglio` file: one safetensors file, arrays plus the graph as JSON in its metadata.

No pickle. The graph carries a format version; a newer one is refused by name. A file states the
oldest format that can say what it holds: 1, 2 with constants declared odd, 3 with an arithmetic
that needs the fields of NEWER, 4 with a Requant that rounds otherwise than its Program, or 5 with a
Lookup that has a table for each channel. A digest of the rest tells a file that was damaged from
one that was written; files without it are older.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_bytes

from intaglio.errors import ProgramError
from intaglio.fixed import Arithmetic, IntType
from intaglio.ops import OPS, Constant, Lookup, Op, Requant, Tensor
from intaglio.program import Program
from intaglio.system.disk import write_bytes
from intaglio.system.places import Kind
from intaglio.system.stored import fields_of, parsed, typed

FORMATS = PLAIN, ODD, PROFILES, ROUNDED, TABLES = 1, 2, 3, 4, 5
NEWER = ("product", "per_layer", "forms")  # fields of Arithmetic that older readers do not know
KINDS = {kind.__name__: kind for kind in OPS}
STORED = (np.int8, np.int16, np.int32, np.int64)


def save(program: Program, path: str | Path) -> None:
    """Write the Program; the file appears whole or not at all."""
    path = Path(path)
    arithmetic = asdict(program.arithmetic)
    del arithmetic["split_shift"]  # of quantising
    newer = any(arithmetic[name] != getattr(Arithmetic(), name) for name in NEWER)
    for name in NEWER if not newer else ():
        del arithmetic[name]
    odd = sorted(c.name for c in program.constants.values() if c.odd)
    graph = {
        "format": format_of(program, newer),
        "arithmetic": arithmetic,
        "tensors": [tensor_json(t) for t in program.tensors.values()],
        "constants": {c.name: str(c.type) for c in program.constants.values()},
        "ops": [op_json(op) for op in program.ops],
        "meta": program.meta,
    } | ({"odd": odd} if odd else {})
    arrays = {name: narrowest(c.array) for name, c in program.constants.items()}
    graph = json.loads(json.dumps(graph))
    text = json.dumps(graph | {"sha256": fingerprint(graph, arrays)}, sort_keys=True)
    write_bytes(path, as_bytes(arrays, metadata={"intaglio": text}))


def format_of(program: Program, newer: bool) -> int:
    """The oldest that can say what a Program holds; `newer`: its arithmetic has fields of NEWER."""
    tables = (program.constants[op.table].array for op in program.of_kind(Lookup))
    if any(table.ndim > 1 for table in tables):
        return TABLES
    if any(op.rounding for op in program.of_kind(Requant)):
        return ROUNDED
    odd = any(constant.odd for constant in program.constants.values())
    return PROFILES if newer else ODD if odd else PLAIN


FOREIGN = (".onnx", ".pt2", ".tflite", ".pt", ".pth")  # files of networks that are no Programs


def load(path: str | Path) -> Program:
    """Read and verify a Program. Raises ProgramError: missing, corrupt, or of a newer format."""
    path = Path(path)
    if not path.is_file():
        raise ProgramError(f"{path} must be an existing .intaglio file; run `intaglio quantize`.")
    if path.suffix.lower() in FOREIGN:
        raise ProgramError(
            f"{path} must be a .intaglio file; make one with `intaglio quantize` (of float .onnx"
            " and .pt2) or `intaglio import` (of quantised .onnx and .tflite)."
        )
    try:
        with safe_open(path, framework="numpy") as stored:
            text = (stored.metadata() or {}).get("intaglio")
            arrays = {name: stored.get_tensor(name) for name in list(stored.keys())}
        graph = parsed(text) if text else None
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise damaged(path) from error
    if any(array.dtype not in STORED for array in arrays.values()):
        raise damaged(path)
    if not isinstance(graph, dict) or type(graph.get("format")) is not int:
        raise damaged(path)
    if graph["format"] not in FORMATS:
        raise ProgramError(
            f"{path} must have format {PLAIN} to {TABLES}, not {graph['format']}; it was written"
            " by another version of intaglio: install that one, or quantise again."
        )
    if "sha256" in graph and graph.pop("sha256") != fingerprint(graph, arrays):
        raise damaged(path)
    try:
        return from_json(graph, arrays).verify()
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from error
    except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path) from error


def is_program(path: Path) -> bool:
    """Whether a file looks like a Program, whole or not."""
    return note(path) is not None


def long_made(path: Path) -> str:
    """How a Program in a file was made, where that takes long: as words, "" where it does not."""
    try:
        made = json.loads(note(path) or "{}")["meta"]["quantisation"]
        if made["method"] == "aqd":
            return "a Program that was trained"
        if made["reconstruct"]:
            return "a Program that was reconstructed"
        if made["method"] == "detptq" or made["budgets"]:
            return "a Program that was searched for"
    except (ValueError, KeyError, TypeError):
        pass  # not of this version, or damaged
    return ""


MADE = Kind("a Program", is_program, long_made)


def note(path: Path) -> str | None:
    """The graph in a file, as JSON; None in one of another kind."""
    try:
        with safe_open(path, framework="numpy") as stored:
            found: str | None = (stored.metadata() or {}).get("intaglio")
            return found
    except (SafetensorError, OSError):
        return None


def damaged(path: Path) -> ProgramError:
    """The one sentence for every kind of damage."""
    return ProgramError(
        f"{path} must be a whole .intaglio file, not a damaged or truncated one; quantise again."
    )


def from_json(graph: Mapping[str, Any], arrays: Mapping[str, Any]) -> Program:
    """The Program described by the graph and its arrays, not yet verified."""
    if graph["constants"].keys() != arrays.keys() or type(graph["meta"]) is not dict:
        raise TypeError("the graph must name every array, and meta be an object")
    constants = {
        typed(str, name): Constant(name, arrays[name].astype(np.int64), typed(IntType, kind))
        for name, kind in graph["constants"].items()
    }
    for name in graph["odd"] if graph["format"] == ODD else graph.get("odd", ()):
        constants[name] = replace(constants[name], odd=True)
    tensors = {t["name"]: Tensor(**fields_of(Tensor, t)) for t in graph["tensors"]}
    if len(tensors) < len(graph["tensors"]):
        raise TypeError("no two tensors must have one name")
    arithmetic = Arithmetic(**fields_of(Arithmetic, graph["arithmetic"]))
    ops = tuple(op_from(o) for o in graph["ops"])
    return Program(ops, tensors, constants, arithmetic, graph["meta"])


def narrowest(array: Any) -> Any:
    """The array in the smallest signed dtype that holds it."""
    lo, hi = (int(array.min()), int(array.max())) if array.size else (0, 0)
    dtype = next(d for d in STORED if np.iinfo(d).min <= lo and hi <= np.iinfo(d).max)
    return np.ascontiguousarray(array.astype(dtype))


def tensor_json(tensor: Tensor) -> dict[str, Any]:
    """JSON form of a tensor."""
    return {f.name: getattr(tensor, f.name) for f in fields(tensor)} | {"type": str(tensor.type)}


def op_json(op: Op) -> dict[str, Any]:
    """JSON form of an operation."""
    values = {f.name: getattr(op, f.name) for f in fields(op)}
    if values.get("rounding", "") is None:
        del values["rounding"]  # older formats have none
    if "type" in values:
        values["type"] = str(values["type"])
    return {"op": type(op).__name__, **values}


def op_from(stored: Mapping[str, Any]) -> Op:
    """Inverse of `op_json`."""
    kind = KINDS[stored["op"]]
    return kind(**fields_of(kind, {name: v for name, v in stored.items() if name != "op"}))


def fingerprint(graph: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """SHA-256 of a graph of JSON values, and of names, dtypes, shapes and bytes of arrays."""
    sha = hashlib.sha256(json.dumps(graph, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(repr((name, array.dtype.str, array.shape)).encode() + array.tobytes())
    return sha.hexdigest()
