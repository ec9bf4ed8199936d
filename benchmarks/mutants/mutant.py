"""A mutant: a design with one thing changed, in a module of its Verilog or in a ROM file."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from intaglio.codegen.structure.streams import nets

TOP = "rtl/top.v"
Kind = Literal["logic", "constant", "rom", "protocol", "reset", "timing"]
KINDS: tuple[Kind, ...] = ("logic", "constant", "rom", "protocol", "reset", "timing")


@dataclass(frozen=True)
class Mutant:
    """`text` takes the place of a module of the design, or of a ROM file.

    block   the cell of the design that it is in.
    module  the module, or "" where it is a ROM file.
    what    was changed, in words.
    """

    kind: Kind
    block: str
    module: str
    path: str
    what: str
    text: str

    @property
    def name(self) -> str:
        """Of all mutants of a design its own."""
        return f"{self.kind}: {self.module or self.path}: {self.what}"


@dataclass(frozen=True)
class Sources:
    """The Verilog and ROM files of a build, whose top module has this name."""

    top: str
    files: Mapping[str, str]

    @cached_property
    def modules(self) -> dict[str, str]:
        """Every module, whole, by its name."""
        found = re.finditer(r"^module (\w+)\b.*?^endmodule$", self.files[TOP], re.S | re.M)
        return {one[1]: one[0] for one in found}

    @cached_property
    def cells(self) -> tuple[str, ...]:
        """Instances of the top module."""
        return tuple(nets(self.files[TOP], self.top))

    @cached_property
    def roms(self) -> tuple[str, ...]:
        """Paths of the ROM files."""
        return tuple(sorted(path for path in self.files if path.startswith("rom/")))

    def block(self, name: str) -> str:
        """The cell that a module or a ROM is in: the longest whose name it begins with."""
        return max((c for c in self.cells if f"{name}_".startswith(f"{c}_")), key=len, default="")

    def block_of(self, module: str) -> str:
        """Of a module; "" for the top."""
        return self.block(module.removeprefix(f"{self.top}_"))

    def inside(self) -> list[str]:
        """The modules below the top."""
        return [name for name in self.modules if name != self.top]

    def mutated(self, mutant: Mutant) -> dict[str, str]:
        """Path to text of the one file that differs."""
        if mutant.path != TOP:
            return {mutant.path: mutant.text}
        whole = self.files[TOP].replace(self.modules[mutant.module], mutant.text, 1)
        return {TOP: whole}

    def of_module(self, kind: Kind, module: str, what: str, text: str) -> Mutant:
        """A mutant of a module."""
        return Mutant(kind, self.block_of(module), module, TOP, what, text)


def drawn(sources: Sources, kind: Kind, seed: int) -> random.Random:
    """Numbers for a kind of mutants of a design."""
    return random.Random(f"{kind} {seed} {len(sources.files[TOP])}")
