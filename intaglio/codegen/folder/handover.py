"""What a build has for who puts it into a larger design: wrapper, lists of sources, IP-XACT, data
sheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intaglio.codegen.area.devices import Device
from intaglio.codegen.folder.datasheet import datasheet
from intaglio.codegen.folder.ipxact import ipxact
from intaglio.codegen.folder.lists import file_list, fusesoc_core
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.codegen.folder.wrapper import axi_verilog
from intaglio.codegen.folder.zynq import zynq_files
from intaglio.codegen.structure.ports import Port

DATASHEET = "datasheet.md"


def handed_over(facts: Mapping[str, Any], files: Mapping[str, str], chip: Device) -> dict[str, str]:
    """Path to text, from the facts of the manifest and the other files of the build: on a Zynq
    (`chip`) a block design and drivers too."""
    name, wrapper = facts["name"], facts["wrapper"]
    source = Port.from_json(facts["input"])
    sinks = [Port.from_json(entry) for entry in facts["outputs"]]
    sources = (*SOURCES, f"rtl/{wrapper}.v")
    roms = sorted(path for path in files if path.startswith("rom/"))
    return {
        sources[-1]: axi_verilog(wrapper, name, source, sinks),
        f"{name}.f": file_list(sources),
        f"{name}.core": fusesoc_core(name, wrapper, sources, roms),
        "component.xml": ipxact(name, wrapper, source, sinks, sources, roms),
        DATASHEET: datasheet(facts, wrapper, sources),
        **zynq_files(chip, name, wrapper, facts["clock_mhz"], source, sinks, sources),
    }
