"""Every tensor of a run on disk, in the forms that benches read, and the model's tables; and back.

A trace is a folder: `index.json`, one file for each tensor with the codes of all images, and in
`tables/` what the layers that make these tensors hold (`cosim.tables`), each as .npy and as .hex.

    npy     the codes (N, C, H, W) in the narrowest NumPy integers
    hex     $readmemh: a code a line, in raster order, channels innermost
    beats   $readmemh: a beat a line, `lanes` channels each, the first in the low bits, raster order

Words of text are two's complement, as many digits as a code, or a beat in whole bytes, needs; a
word of a table is as wide as its type.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from intaglio.cosim.port import Port, tensor_port
from intaglio.cosim.tables import Layer, Table, layer, meaning
from intaglio.errors import DataError
from intaglio.fixed import IntType
from intaglio.hdl.pack import hex_text
from intaglio.ops import Ints
from intaglio.program import Program
from intaglio.system.disk import whole_folder
from intaglio.system.names import shortened
from intaglio.system.places import Kind, check_folder

INDEX = "index.json"
FORMAT = "intaglio-trace-1"
TABLES = "tables"
TraceFormat = Literal["npy", "hex", "beats"]


@dataclass(frozen=True)
class Trace:
    """A trace on disk. `index` is what its index.json holds."""

    folder: Path
    index: Mapping[str, Any]

    @staticmethod
    def open(folder: str | Path) -> Trace:
        """Read a trace. Raises DataError for a folder that is none."""
        folder = Path(folder)
        index = read_index(folder)
        if index is None:
            raise DataError(
                f"{folder} must be a folder written by `intaglio trace`, not one without a"
                f" readable {INDEX}."
            )
        return Trace(folder, index)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Their names, in the Program's order."""
        return tuple(entry["tensor"] for entry in self.index["tensors"])

    def entry(self, tensor: str) -> Mapping[str, Any]:
        """What the index says of a tensor. Raises DataError for one that was not traced."""
        for entry in self.index["tensors"]:
            if entry["tensor"] == tensor:
                found: Mapping[str, Any] = entry
                return found
        known = ", ".join(self.tensors)
        raise DataError(
            f"The tensor must be one of those in {self.folder}, {known}, not {tensor!r}."
        )

    def port(self, tensor: str, lanes: int | None = None, type: IntType | None = None) -> Port:
        """The tensor on a stream; `lanes` default to those of its file, `type` to its own: a wider
        one where the block's stream is wider."""
        entry = self.entry(tensor)
        port = Port.from_json({"name": tensor, **entry, "lanes": lanes or entry["lanes"]})
        if type is not None and not type.holds(port.type.lo, port.type.hi):
            raise DataError(f"The type of {tensor!r} must hold {port.type}, not be {type}.")
        return replace(port, type=type or port.type)

    def codes(self, tensor: str) -> Ints:
        """The tensor's codes (N, C, H, W). Raises DataError where its file is damaged."""
        path = self.folder / self.entry(tensor)["file"]
        shape = (self.index["images"], *self.entry(tensor)["shape"])
        try:
            if path.suffix == ".npy":
                codes = np.asarray(np.load(path, allow_pickle=False), dtype=np.int64)
            else:
                words = [int(line, 16) for line in path.read_text(encoding="ascii").split()]
                codes = self.port(tensor).frames(words)
            if codes.shape != shape:
                raise ValueError(f"it holds {codes.shape}, not {shape}")
        except (OSError, ValueError) as error:
            raise DataError(f"{path} must be a whole file of a trace, but: {error}.") from error
        return codes

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the tensors that a layer in the trace makes, in the Program's order."""
        return tuple(entry["tensor"] for entry in self.index.get("layers", ()))

    def layer(self, tensor: str) -> Mapping[str, Any]:
        """What the index says of the layer that makes a tensor: formula, rounding, clamp, zero
        points, tables. Raises DataError where the trace has none."""
        for entry in self.index.get("layers", ()):
            if entry["tensor"] == tensor:
                found: Mapping[str, Any] = entry
                return found
        known = ", ".join(self.layers) or "none"
        raise DataError(
            f"The layer must be one of those in {self.folder}, {known}, not {tensor!r}."
        )

    def table(self, tensor: str, name: str) -> Ints:
        """A table of a layer, as `w`, `M`, `B` or `S`. Raises DataError where there is none."""
        tables = self.layer(tensor)["tables"]
        if name not in tables:
            known = ", ".join(tables) or "none"
            raise DataError(f"The table of {tensor!r} must be one of {known}, not {name!r}.")
        path = self.folder / tables[name]["npy"]
        try:
            values = np.asarray(np.load(path, allow_pickle=False), dtype=np.int64)
            if list(values.shape) != tables[name]["shape"]:
                raise ValueError(f"it holds {values.shape}, not {tables[name]['shape']}")
        except (OSError, ValueError) as error:
            raise DataError(f"{path} must be a whole file of a trace, but: {error}.") from error
        return values


def table_text(values: Ints, bits: int) -> str:
    """Integers as a $readmemh text of `bits`-wide words in two's complement, the last axis fastest.

    A block's memory that is wider than the table's type needs its signs that wide. Raises DataError
    for a value that does not fit, signed or unsigned.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if bits < 1 or low < -(1 << bits - 1) or high >= 1 << (bits - (low < 0)):
        raise DataError(f"bits must be enough for values from {low} to {high}, not {bits}.")
    return hex_text([value & (1 << bits) - 1 for value in values.ravel().tolist()], bits)


def write_trace(
    program: Program,
    images: NDArray[np.integer[Any]],
    folder: str | Path,
    *,
    format: TraceFormat = "npy",
    lanes: int = 1,
    tensors: Sequence[str] | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run images (N, C, H, W) through the simulator and write tensors of the Program, and the
    tables of the layers that make them.

    format    npy, hex or beats; `lanes` are the channels of a beat.
    tensors   their names, accumulators too; default: all.
    force     replace an earlier trace, and all that is in its folder.
    progress  is told (done, total) after each image.

    The folder appears whole or not at all. Raises DataError for a folder that holds something or
    images that do not fit, ProgramError for unknown tensors.
    """
    from intaglio.sim.engine import Simulator, numpy_type  # whoever reads a trace needs no Numba

    if format not in get_args(TraceFormat):
        raise DataError(f"The format must be npy, hex or beats, not {format!r}.")
    if lanes != 1 and format != "beats":
        raise DataError(f"lanes must go with the format beats, not with {format}.")
    if not len(images):
        raise DataError("images must hold at least one image, not none.")
    wanted = [name for name in program.tensors if tensors is None or name in tensors]
    for name in tensors or ():
        tensor_port(program, name)
    ports = {name: tensor_port(program, name, lanes) for name in wanted}
    simulator = Simulator(program, threads=1, trace=True)
    suffix = "npy" if format == "npy" else "hex"
    stems = {
        name: f"{number:03}-{shortened(re.sub(r'[^A-Za-z0-9._-]', '_', name))}"
        for number, name in enumerate(program.tensors)
        if name in ports
    }
    files = {name: f"{stem}.{suffix}" for name, stem in stems.items()}
    check_folder(Path(folder), TRACE, force)
    with whole_folder(Path(folder)) as part:
        arrays = {}
        if format == "npy":
            arrays = {
                name: mapped(part / files[name], numpy_type(port.type), (len(images), *port.shape))
                for name, port in ports.items()
            }
        for n in range(len(images)):  # one at a time: a trace holds every tensor
            found = simulator(images[n : n + 1])
            for name, port in ports.items():
                if format == "npy":
                    arrays[name][n] = found[name][0]
                else:
                    with (part / files[name]).open("a", encoding="ascii") as file:
                        file.write(words_text(port, found[name].astype(np.int64), format))
            if progress is not None:
                progress(n + 1, len(images))
        for array in arrays.values():
            array.flush()
        index = {
            "format": FORMAT,
            "program": program.digest(),
            "arithmetic": program.arithmetic.name,
            "images": len(images),
            "files": format,
            "tensors": [entry_of(program, ports[name], files[name], format) for name in wanted],
            "layers": [
                written(made, part, stems[name])
                for name in wanted
                if (made := layer(program.producer[name], program)) is not None
            ],
        }
        (part / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return Trace(Path(folder), index)


def written(made: Layer, folder: Path, stem: str) -> dict[str, Any]:
    """A layer's entry in the index, and its tables as files."""
    from intaglio.sim.engine import numpy_type

    entries = {}
    for name, table in made.tables.items():
        place = folder / TABLES / f"{stem}.{name}"
        place.parent.mkdir(exist_ok=True)
        entries[name] = table_entry(table, f"{TABLES}/{place.name}")
        np.save(f"{place}.npy", table.array.astype(numpy_type(table.type)))
        place.with_name(f"{place.name}.hex").write_text(
            table_text(table.array, table.type.bits), encoding="ascii"
        )
    return {**made.facts, "tables": entries}


def table_entry(table: Table, path: str) -> dict[str, Any]:
    """What the index says of a table."""
    return {
        "npy": f"{path}.npy",
        "hex": f"{path}.hex",
        "shape": list(table.array.shape),
        "axes": table.axes,
        "type": str(table.type),
        "word_bits": table.type.bits,
    }


def mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A .npy file as an array. It has its place on the disk from the start: where that were found
    to be missing later, while a page is written, the system would end the process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def words_text(port: Port, frames: Ints, format: TraceFormat) -> str:
    """Frames as a $readmemh text, of codes or of beats."""
    return hex_text(port.pack(frames), word_bits(port, format))


def word_bits(port: Port, format: TraceFormat) -> int:
    """Bits of a word of the file: those of a beat of whole bytes, or of a code."""
    return port.data_width if format == "beats" else port.type.bits


def entry_of(program: Program, port: Port, file: str, format: TraceFormat) -> dict[str, Any]:
    """A tensor's entry in the index."""
    scale, zero_point = meaning(program, port.tensor)
    return {
        "tensor": port.tensor,
        "origin": port.origin,
        "op": type(program.producer[port.tensor]).__name__,
        "shape": list(port.shape),
        "type": str(port.type),
        "scale": scale,
        "zero_point": zero_point,
        "file": file,
        "lanes": port.lanes,
        "word_bits": None if format == "npy" else word_bits(port, format),
        "words": None if format == "npy" else port.beats,
    }


def is_trace(folder: Path) -> bool:
    """Whether a folder is a trace."""
    return read_index(folder) is not None


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a trace; None where there is none."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return index if index["format"] == FORMAT and index["tensors"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def held_by(folder: Path) -> str:
    """What a trace consists of, as words: its user may have benches that read it."""
    index = read_index(folder)
    return f"{len(index['tensors'])} tensors of {index['images']} images" if index else ""


TRACE = Kind("an earlier trace", is_trace, held_by)
