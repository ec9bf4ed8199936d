"""The block design: run in a real Tcl interpreter whose cells have the pins of the vendor's IP:
every pin that it names must be there, and none that must be joined may be left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from networks import pyramid, skip
from test_vivado import tkinter

from intaglio.codegen.bundle import build
from intaglio.codegen.structure.ports import Port

# Interfaces and wires of each IP, from its product guide (PG021, PG144, PG164, PG085, PG247); those
# in the second string must be joined.
PINS = {
    "processing_system7": ("", "M_AXI_GP0 S_AXI_HP0 FCLK_CLK0 FCLK_RESET0_N M_AXI_GP0_ACLK"
                           " S_AXI_HP0_ACLK"),
    "zynq_ultra_ps_e": ("pl_ps_irq0", "M_AXI_HPM0_FPD S_AXI_HP0_FPD pl_clk0 pl_resetn0"
                        " maxihpm0_fpd_aclk saxihp0_fpd_aclk"),
    "proc_sys_reset": ("dcm_locked mb_debug_sys_rst mb_reset bus_struct_reset peripheral_reset"
                       " interconnect_aresetn aux_reset_in",
                       "slowest_sync_clk ext_reset_in peripheral_aresetn"),
    "axi_gpio": ("", "S_AXI s_axi_aclk s_axi_aresetn gpio_io_i gpio2_io_o"),
    "axis_dwidth_converter": ("", "S_AXIS M_AXIS aclk aresetn"),
}  # fmt: skip


class Design:
    """What the commands of a block design made."""

    def __init__(self, folder: Path, wrapper: str, ports: list[Port]) -> None:
        self.folder, self.wrapper, self.ports = folder, wrapper, ports
        self.cells: dict[str, str] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.joined: list[tuple[str, str]] = []
        self.called: list[list[str]] = []

    def pins(self, cell: str) -> tuple[set[str], set[str]]:
        """Those of a cell that may be joined, and those that must."""
        kind, set_to = self.cells[cell], self.settings.get(cell, {})
        if kind == self.wrapper:
            names = " ".join(port.name for port in self.ports)
            return {"frame_error"}, set(f"aclk aresetn {names}".split())
        if kind == "axi_dma":
            must = "S_AXI_LITE s_axi_lite_aclk axi_resetn S_AXIS_S2MM M_AXI_S2MM m_axi_s2mm_aclk"
            if set_to["CONFIG.c_include_mm2s"] == "1":
                must += " M_AXIS_MM2S M_AXI_MM2S m_axi_mm2s_aclk"
            return {"mm2s_introut", "s2mm_introut"}, set(must.split())
        if kind == "smartconnect":
            must = ["aclk", "aresetn"]
            must += [f"S{k:02}_AXI" for k in range(int(set_to["CONFIG.NUM_SI"]))]
            return set(), {*must, *(f"M{k:02}_AXI" for k in range(int(set_to["CONFIG.NUM_MI"])))}
        may, must_be = PINS[kind]
        return set(may.split()), set(must_be.split())

    def pin(self, name: str) -> str:
        """A pin that there is."""
        cell, _, pin = name.partition("/")
        may, must = self.pins(cell)
        assert pin in may | must, name
        return name


def run(folder: Path, facts: Any, *, wns: float = 0.1, environment: str = "") -> Design:
    """scripts/zynq.tcl in an interpreter of its own."""
    tcl: Any = tkinter().Tcl()
    ports = [Port.from_json(entry) for entry in (facts["input"], *facts["outputs"])]
    design = Design(folder, facts["wrapper"], ports)

    def command(name: str, does: Any = None) -> None:
        def called(*words: str) -> str:
            design.called.append([name, *words])
            return str(does(*words)) if does else ""

        tcl.createcommand(name, called)

    def cell(*words: str) -> str:
        *_, kind, name = words
        assert name not in design.cells
        design.cells[name] = kind.split(":")[2] if ":" in kind else kind
        assert words[:2] in (("-type", "ip"), ("-type", "module"))
        return f"cell:{name}"

    def settings(*words: str) -> str:
        if words[0] == "-dict":
            listed = tcl.splitlist(words[1])
            found = dict(zip(listed[::2], listed[1::2], strict=True))
            design.settings.setdefault(words[2].removeprefix("cell:"), {}).update(found)
        return ""

    def join(a: str, b: str) -> str:
        design.joined.append((design.pin(a), design.pin(b)))
        return ""

    def added(*words: str) -> str:
        for path in tcl.splitlist(words[-1]):
            assert path == "system_wrapper.v" or (folder / path).is_file(), path
        return ""

    known = {"PROGRESS": "100%", "STATS.WNS": wns}
    command("get_ipdefs", lambda *words: f"{words[-1][:-1]}9.2 {words[-1][:-1]}10.0")
    command("create_bd_cell", cell)
    command("set_property", settings)
    command("connect_bd_intf_net", join)
    command("connect_bd_net", join)
    command("get_bd_pins", lambda name: name)
    command("get_bd_intf_pins", lambda name: name)
    command("get_bd_cells", lambda name: f"cell:{name}")
    command("add_files", added)
    command("get_property", lambda key, run: known[key])
    command("make_wrapper", lambda *words: "system_wrapper.v")
    for name in ("create_project", "current_project", "current_fileset", "create_bd_design",
                 "apply_bd_automation", "update_compile_order", "assign_bd_address",
                 "validate_bd_design", "save_bd_design", "get_files", "launch_runs",
                 "wait_on_run", "get_runs"):  # fmt: skip
        command(name)
    tcl.eval("rename file file_; rename glob glob_; proc glob args { return system.hwh }")
    tcl.eval('proc file {what args} { if {$what eq "copy"} { note copy {*}$args } else'
             " { file_ $what {*}$args } }")  # fmt: skip
    command("note")
    tcl.eval(f"cd {{{folder}}}; unset -nocomplain ::env(BOARD_PART); {environment}")
    tcl.eval((folder / "scripts" / "zynq.tcl").read_text())
    return design


@pytest.mark.parametrize(
    ("target", "network"), [("xc7z020", skip), ("xczu5ev", skip), ("xczu7ev", pyramid)]
)
def test_every_pin_is_there_and_joined(target: str, network: Any, tmp_path: Path) -> None:
    bundle = build(network(), target=target, lanes=40, clock_mhz=80)
    bundle.write(tmp_path / "build")
    design = run(tmp_path / "build", bundle.manifest)
    ends = [pin for pair in design.joined for pin in pair]
    for cell in design.cells:
        _, must = design.pins(cell)
        assert {f"{cell}/{pin}" for pin in must} <= set(ends)
    sources = {"ps/FCLK_CLK0", "ps/pl_clk0", "ps/FCLK_RESET0_N", "ps/pl_resetn0",
               "reset/peripheral_aresetn"}  # fmt: skip
    once = [pin for pin in ends if pin not in sources]
    assert len(once) == len(set(once))
    outputs = len(bundle.manifest["outputs"])
    assert list(design.cells.values()).count("axi_dma") == outputs
    assert "80" in design.settings["ps"].values()
    made = [words for words in design.called if words[0] == "create_bd_cell"]
    assert all(words[4].endswith(":10.0") for words in made if words[2] == "ip")  # the newest
    defines = [words for words in design.called if words[:2] == ["set_property", "verilog_define"]]
    assert f'INTAGLIO_ROM_PATH="{tmp_path}/build/"' in defines[0][2].replace("\\", "")
    for port in design.ports:  # a DMA's stream is a power of two
        width = port.data_width // 8
        assert (f"{port.name}_width" in design.cells) == (width & (width - 1) != 0)
    assert [w[-1] for w in design.called if w[0] == "note"] == ["zynq.bit", "zynq.hwh"]


def test_a_missed_clock_is_an_error_and_a_board_has_presets(tmp_path: Path) -> None:
    bundle = build(skip(), target="xc7z020", lanes=8)
    folder = tmp_path / "build"
    bundle.write(folder)
    with pytest.raises(tkinter().TclError, match="the clock is not met"):
        run(folder, bundle.manifest, wns=-0.01)
    named = run(folder, bundle.manifest, environment="set ::env(BOARD_PART) a:b:c:1.0")
    assert ["set_property", "board_part", "a:b:c:1.0", ""] in named.called
    (rule,) = (words for words in named.called if words[0] == "apply_bd_automation")
    assert re.search(r"apply_board_preset 1$", rule[4])


def test_no_block_design_without_a_processor() -> None:
    files = build(skip(), target="xc7a100t", lanes=8).files
    assert "scripts/zynq.tcl" not in files
    assert "scripts/vivado.tcl" in files
    assert not any(path.startswith("driver/") for path in files)
