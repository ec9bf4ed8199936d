"""The folder of a golden model: everything that a bench compiles, and a manifest.

NAME.h, NAME.c           the network: constants
intaglio.h, intaglio.c   how it is called, and what runs it; fixed.h, intaglio_program.h
intaglio_dpi.sv, NAME_dpi.sv, intaglio_vpi.c   the same for SystemVerilog and for Verilog
Makefile                 libNAME.a, libNAME.so, NAME.vpi
manifest.json            digest and arithmetic, and every tensor's name, shape and type
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio import __version__
from intaglio.cmodel.arithmetic import header
from intaglio.cmodel.source import Source
from intaglio.errors import DataError
from intaglio.program import Program
from intaglio.system.disk import whole_folder
from intaglio.system.places import Kind, check_folder

MANIFEST = "manifest.json"
FORMAT = "intaglio-golden-1"
LIBRARY = "intaglio.c"
ALIKE = ("intaglio.h", "intaglio_program.h", LIBRARY, "intaglio_dpi.sv", "intaglio_vpi.c")
MADE = (".o", ".a", ".so", ".vpi")  # endings of what the Makefile makes
NAME = re.compile(r"(?!intaglio|fixed)[A-Za-z][A-Za-z0-9_]*")
MAKEFILE = """\
# make: lib{name}.a and lib{name}.so, for C, C++ and DPI. make vpi: {name}.vpi, for Icarus Verilog.
CC ?= cc
CFLAGS ?= -O3
objects := intaglio.o {name}.o

all: lib{name}.a lib{name}.so

%.o: %.c intaglio.h intaglio_program.h fixed.h {name}.h
	$(CC) -std=c99 -fPIC $(CFLAGS) -c $< -o $@

lib{name}.a: $(objects)
	$(AR) rcs $@ $(objects)

lib{name}.so: $(objects)
	$(CC) -shared -o $@ $(objects)

vpi: {name}.vpi

{name}.vpi: intaglio_vpi.c $(objects)
	iverilog-vpi --name={name} -DINTAGLIO_OPEN={name}_open intaglio_vpi.c $(objects)

clean:
	rm -f *.o lib{name}.a lib{name}.so {name}.vpi

.PHONY: all vpi clean
"""
DPI = """\
// The network `{name}` for SystemVerilog, through DPI-C: a model for the functions of intaglio_dpi.
/* verilator lint_off TIMESCALEMOD */
package {name}_dpi;
  import "DPI-C" function chandle {name}_open();
endpackage
/* verilator lint_on TIMESCALEMOD */
"""
HEADER = """\
{heading}#ifndef {guard}
#define {guard}

#include "intaglio.h"

#ifdef __cplusplus
extern "C" {{
#endif

extern const intaglio_program {name}_program;
intaglio *{name}_open(void); /* intaglio_open(&{name}_program) */

#ifdef __cplusplus
}}
#endif
#endif
"""


@dataclass(frozen=True)
class Model:
    """A folder on disk. `name` is what the network's C names begin with."""

    folder: Path
    name: str
    manifest: Mapping[str, Any]

    @property
    def sources(self) -> tuple[str, str]:
        """The C files of the model itself."""
        return LIBRARY, f"{self.name}.c"


def write_c_model(
    program: Program, folder: str | Path, name: str = "model", *, force: bool = False
) -> Model:
    """Write the C golden model of a Program; `name` is the network's in C, as `NAME_open`.

    The folder appears whole or not at all, and replaces an older one; with files of others in it,
    as a bench, only where that is to be by `force`. Raises DataError for such a folder or one that
    holds something else, and for a name that C cannot have.
    """
    check_name(name)
    check_folder(Path(folder), GOLDEN, force)
    texts = model_texts(program, name)
    manifest = {
        "format": FORMAT,
        "name": name,
        "program": program.digest(),
        "arithmetic": program.arithmetic.name,
        "tensors": [
            {"tensor": t.name, "shape": list(t.shape), "type": str(t.type), "range": [t.lo, t.hi]}
            for t in (program.tensors[op.output] for op in program.ops)
        ],
        "files": [*texts, MANIFEST],
    }
    with whole_folder(Path(folder)) as part:
        for path, text in texts.items():
            (part / path).write_text(text, encoding="utf-8")
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return Model(Path(folder), name, manifest)


def model_texts(program: Program, name: str) -> dict[str, str]:
    """Every file but the manifest."""
    heading = (
        f"/* Written by intaglio {__version__} from the Program {program.digest()[:12]}; do"
        " not edit. */\n"
    )
    own = files("intaglio.cmodel") / "c"
    return {
        f"{name}.h": HEADER.format(heading=heading, guard=f"{name.upper()}_H", name=name),
        f"{name}.c": Source(program, name, heading).text(),
        "fixed.h": header(),
        **{path: (own / path).read_text(encoding="utf-8") for path in ALIKE},
        f"{name}_dpi.sv": DPI.format(name=name),
        "Makefile": MAKEFILE.format(name=name),
    }


def check_name(name: str) -> None:
    """Raise DataError for what cannot begin a name in C, or would be a file of another meaning."""
    if not NAME.fullmatch(name):
        raise DataError(
            "The network's name must be letters, digits and underscores, beginning with a letter"
            f" and not with intaglio or fixed, not {name!r}."
        )


def c_name(text: str) -> str:
    """A name of this kind that is near to any text."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if NAME.fullmatch(name) else f"m_{name}"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of such a folder; None where there is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest if manifest["format"] == FORMAT and manifest["files"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_golden(folder: Path) -> bool:
    """Whether a folder is one of these."""
    return read_manifest(folder) is not None


def strangers(folder: Path) -> str:
    """What intaglio and the Makefile did not put there, in words; "" for nothing."""
    manifest = read_manifest(folder)
    written = set(manifest["files"]) if manifest else set()
    others = sorted(path.name for path in folder.iterdir() if path.name not in written)
    found = [name for name in others if Path(name).suffix not in MADE]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


GOLDEN = Kind("an earlier golden model", is_golden, strangers)
