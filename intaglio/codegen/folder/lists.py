"""Lists of a build's sources, for other tools' build systems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def file_list(sources: Sequence[str]) -> str:
    """For `iverilog -f`, `verilator -f` and their like, in the folder of the build."""
    return (
        "// Paths are relative to the folder of the build. What runs elsewhere is told that\n"
        "// folder, with a slash at its end, by the macro INTAGLIO_ROM_PATH: datasheet.md.\n"
        + "".join(f"{source}\n" for source in sources)
    )


def fusesoc_core(name: str, wrapper: str, sources: Sequence[str], roms: Iterable[str]) -> str:
    """A core of FuseSoC (CAPI 2). The ROMs are copied to where its tools run."""
    copied = "".join(f"\n      - {rom}: {{copyto: {rom}}}" for rom in roms) or " []"
    listed = "".join(f"\n      - {source}" for source in sources)
    sets = f"""\
    filesets: [rtl, rom]
    toplevel: {wrapper}
"""
    return f"""\
CAPI=2:
name: intaglio:build:{name}
description: A quantised network as a block of AXI4-Stream; see datasheet.md.
filesets:
  rtl:
    files:{listed}
    file_type: verilogSource-2005
  rom:
    files:{copied}
    file_type: user
targets:
  default:
{sets}\
  lint:
{sets}\
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wno-fatal, -Wno-lint, -Wno-style]
"""
