"""A build on a Zynq: a block design around it in Tcl, and drivers in Python and C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from intaglio.codegen.area.devices import Device
from intaglio.codegen.folder import zynq_driver
from intaglio.codegen.structure.ports import FRAME_ERROR, Port

SCRIPT = "scripts/zynq.tcl"
CARRIED = ("errors.py", "fixed.py", "hdl/pack.py")  # modules that the Python driver needs
WIDEST = 128  # bytes of a DMA's stream
LENGTH_BITS = 26  # of a transfer in bytes, the most there is
MOST_OUTPUTS = 15  # that one interconnect joins, with the input


@dataclass(frozen=True)
class Processor:
    """The cell of a processor, its settings, and its pins: the clock and reset that it gives, a
    master for registers, a slave for buffers, and their clocks."""

    kind: str
    external: str
    frequency: str
    settings: str
    clock: str
    reset: str
    master: str
    slave: str
    clocked: tuple[str, ...]


PROCESSORS = {
    "ps7": Processor(
        kind="processing_system7",
        external="make_external {FIXED_IO, DDR} ",
        frequency="PCW_FPGA0_PERIPHERAL_FREQMHZ",
        settings="CONFIG.PCW_USE_M_AXI_GP0 1 CONFIG.PCW_USE_S_AXI_HP0 1 CONFIG.PCW_EN_CLK0_PORT 1",
        clock="FCLK_CLK0",
        reset="FCLK_RESET0_N",
        master="M_AXI_GP0",
        slave="S_AXI_HP0",
        clocked=("M_AXI_GP0_ACLK", "S_AXI_HP0_ACLK"),
    ),
    "psu": Processor(
        kind="zynq_ultra_ps_e",
        external="",
        frequency="PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ",
        settings="CONFIG.PSU__USE__M_AXI_GP0 1 CONFIG.PSU__USE__M_AXI_GP1 0"
        " CONFIG.PSU__USE__M_AXI_GP2 0 CONFIG.PSU__USE__S_AXI_GP2 1",
        clock="pl_clk0",
        reset="pl_resetn0",
        master="M_AXI_HPM0_FPD",
        slave="S_AXI_HP0_FPD",
        clocked=("maxihpm0_fpd_aclk", "saxihp0_fpd_aclk"),
    ),
}


def zynq_files(
    device: Device,
    name: str,
    wrapper: str,
    clock_mhz: float,
    source: Port,
    sinks: Sequence[Port],
    sources: Sequence[str],
) -> dict[str, str]:
    """Path to text; nothing for a device without a processor, or more outputs than one interconnect
    joins."""
    if not device.processor or len(sinks) > MOST_OUTPUTS:
        return {}
    tcl = block_design(device, wrapper, clock_mhz, source, sinks, sources)
    return {SCRIPT: tcl, **driver_files(name, source, sinks)}


def driver_files(name: str, source: Port, sinks: Sequence[Port]) -> dict[str, str]:
    """Drivers in Python and C, with what they need, in `driver/`."""
    package = files("intaglio")
    texts = {f"driver/intaglio/{path}": (package / path).read_text("utf-8") for path in CARRIED}
    about = '"""A part of intaglio, for network.py."""\n'
    texts |= {f"driver/{room}/__init__.py": about for room in ("intaglio", "intaglio/hdl")}
    texts["driver/network.py"] = Path(zynq_driver.__file__).read_text("utf-8")
    for file in ("intaglio_dma.c", "intaglio_dma.h"):
        texts[f"driver/{file}"] = (package / "codegen" / "c" / file).read_text("utf-8")
    texts[f"driver/{name}_net.h"] = net_header(name, source, sinks)
    return texts


def net_header(name: str, source: Port, sinks: Sequence[Port]) -> str:
    """The ports of a network for the C driver."""
    outputs = "".join(f"    {port_text(port)},\n" for port in sinks)
    return f"""\
/* The streams of {name}, for intaglio_dma.h. */
#ifndef {name.upper()}_NET_H
#define {name.upper()}_NET_H

#include "intaglio_dma.h"

static const intaglio_port {name}_input = {port_text(source)};
static const intaglio_port {name}_outputs[] = {{
{outputs}}};
static const intaglio_net {name}_net = {{&{name}_input, {name}_outputs, {len(sinks)}}};

#endif
"""


def port_text(port: Port) -> str:
    """A stream as a C initialiser."""
    c, h, w = port.shape
    signed = int(port.type.signed)
    numbers = (c, h, w, port.lanes, port.type.bits, signed, port.data_width // 8)
    return f'{{"{port.name}", {", ".join(map(str, numbers))}}}'


def dma_bytes(port: Port) -> int:
    """Bytes of a DMA's stream for a port: a power of two."""
    wanted: int = 1 << (port.data_width // 8 - 1).bit_length()
    return min(wanted, WIDEST)


def adapted(port: Port) -> bool:
    """Whether a port is as wide as no stream of a DMA."""
    return dma_bytes(port) * 8 != port.data_width


def adapter(port: Port, near: int, far: int) -> str:
    """The cell that makes beats of `far` bytes of those of `near` bytes."""
    return (
        f"ip {port.name}_width axis_dwidth_converter CONFIG.HAS_TLAST 1 CONFIG.HAS_TKEEP 1 \\\n"
        f"  CONFIG.S_TDATA_NUM_BYTES {near} CONFIG.M_TDATA_NUM_BYTES {far}\n"
    )


def stream(name: str, source: Port | None, sink: Port) -> str:
    """The DMA `name` of an output, and of the input."""
    has_input, width = (0, 32) if source is None else (1, 8 * dma_bytes(source))
    text = (
        f"ip {name} axi_dma CONFIG.c_include_sg 0 CONFIG.c_sg_length_width {LENGTH_BITS} \\\n"
        f"  CONFIG.c_include_s2mm 1 CONFIG.c_include_mm2s {has_input}"
        + f" CONFIG.c_m_axis_mm2s_tdata_width {width}" * has_input
        + "\n"
    )
    if source is not None:
        inward = f"net/{source.name}"
        if adapted(source):
            text += adapter(source, dma_bytes(source), source.data_width // 8)
            text += f"link {source.name}_width/M_AXIS {inward}\n"
            inward = f"{source.name}_width/S_AXIS"
        text += f"link {name}/M_AXIS_MM2S {inward}\n"
    outward = f"net/{sink.name}"
    if adapted(sink):
        text += adapter(sink, sink.data_width // 8, dma_bytes(sink))
        text += f"link {outward} {sink.name}_width/S_AXIS\n"
        outward = f"{sink.name}_width/M_AXIS"
    return f"{text}link {outward} {name}/S_AXIS_S2MM\n"


def clocking(processor: Processor, source: Port, sinks: Sequence[Port]) -> str:
    """Every cell's clock and reset."""
    clocked = [f"ps/{pin}" for pin in processor.clocked]
    clocked += ["reset/slowest_sync_clk", "net_reset/slowest_sync_clk", "net/aclk"]
    clocked += ["control/s_axi_aclk", "registers/aclk", "buffers/aclk"]
    resets = ["control/s_axi_aresetn", "registers/aresetn", "buffers/aresetn"]
    for k in range(len(sinks)):
        clocked += [f"dma_{k}/s_axi_lite_aclk", f"dma_{k}/m_axi_s2mm_aclk"]
        resets.append(f"dma_{k}/axi_resetn")
    clocked.append("dma_0/m_axi_mm2s_aclk")
    for port in (source, *sinks):
        if adapted(port):
            clocked.append(f"{port.name}_width/aclk")
            resets.append(f"{port.name}_width/aresetn")
    return "".join(f"wire ps/{processor.clock} {pin}\n" for pin in clocked) + "".join(
        f"wire reset/peripheral_aresetn {pin}\n" for pin in resets
    )


def block_design(
    device: Device,
    wrapper: str,
    clock_mhz: float,
    source: Port,
    sinks: Sequence[Port],
    sources: Sequence[str],
) -> str:
    """The script that makes bitstream and .hwh for PYNQ."""
    ps = PROCESSORS[device.processor]
    settings = f"{ps.settings} CONFIG.{ps.frequency} {clock_mhz:g}"
    streams = "".join(
        stream(f"dma_{k}", None if k else source, sink) for k, sink in enumerate(sinks)
    )
    slaves = ["control/S_AXI"] + [f"dma_{k}/S_AXI_LITE" for k in range(len(sinks))]
    masters = ["dma_0/M_AXI_MM2S"] + [f"dma_{k}/M_AXI_S2MM" for k in range(len(sinks))]
    out = "".join(f"link registers/M{k:02}_AXI {slave}\n" for k, slave in enumerate(slaves))
    into = "".join(f"link {master} buffers/S{k:02}_AXI\n" for k, master in enumerate(masters))
    return f"""\
# vivado -mode batch -source {SCRIPT}, in the folder of the build: zynq/, zynq.bit and zynq.hwh.
# BOARD_PART in the environment names a board whose presets the processor takes.
proc ip {{name kind args}} {{
  set newest [lindex [lsort -dictionary [get_ipdefs -all "xilinx.com:ip:$kind:*"]] end]
  set cell [create_bd_cell -type ip -vlnv $newest $name]
  if {{[llength $args]}} {{ set_property -dict $args $cell }}
}}
proc link {{a b}} {{ connect_bd_intf_net [get_bd_intf_pins $a] [get_bd_intf_pins $b] }}
proc wire {{a b}} {{ connect_bd_net [get_bd_pins $a] [get_bd_pins $b] }}

create_project -force zynq zynq -part {device.part}
set preset 0
if {{[info exists ::env(BOARD_PART)]}} {{
  set_property board_part $::env(BOARD_PART) [current_project]
  set preset 1
}}
add_files [list {" ".join(sources)}]
set_property verilog_define [list "INTAGLIO_ROM_PATH=\\"[file normalize .]/\\""] [current_fileset]
update_compile_order -fileset sources_1
create_bd_design system

ip ps {ps.kind}
apply_bd_automation -rule xilinx.com:bd_rule:{ps.kind} \\
  -config [list {ps.external}apply_board_preset $preset] [get_bd_cells ps]
set_property -dict [list {settings}] [get_bd_cells ps]
create_bd_cell -type module -reference {wrapper} net

# Resets: of everything, and of the network when the driver says so.
ip reset proc_sys_reset
ip net_reset proc_sys_reset CONFIG.C_AUX_RESET_HIGH 1
ip control axi_gpio CONFIG.C_IS_DUAL 1 CONFIG.C_GPIO_WIDTH 1 CONFIG.C_GPIO2_WIDTH 1 \\
  CONFIG.C_ALL_INPUTS 1 CONFIG.C_ALL_OUTPUTS_2 1
wire net/{FRAME_ERROR} control/gpio_io_i
wire control/gpio2_io_o net_reset/aux_reset_in
wire net_reset/peripheral_aresetn net/aresetn
wire ps/{ps.reset} reset/ext_reset_in
wire ps/{ps.reset} net_reset/ext_reset_in

# A DMA for every output, the first with the input.
{streams}
# Registers for the processor, buffers in its memory.
ip registers smartconnect CONFIG.NUM_SI 1 CONFIG.NUM_MI {len(slaves)}
link ps/{ps.master} registers/S00_AXI
{out}ip buffers smartconnect CONFIG.NUM_SI {len(masters)} CONFIG.NUM_MI 1
{into}link buffers/M00_AXI ps/{ps.slave}

{clocking(ps, source, sinks)}
assign_bd_address
validate_bd_design
save_bd_design
add_files -norecurse [make_wrapper -files [get_files system.bd] -top]
set_property top system_wrapper [current_fileset]
update_compile_order -fileset sources_1
launch_runs impl_1 -to_step write_bitstream
wait_on_run impl_1
if {{[get_property PROGRESS [get_runs impl_1]] != "100%"}} {{ error "there is no bitstream" }}
if {{[get_property STATS.WNS [get_runs impl_1]] < 0}} {{ error "the clock is not met" }}
file copy -force zynq/zynq.runs/impl_1/system_wrapper.bit zynq.bit
file copy -force [lindex [glob zynq/*/sources_1/bd/system/hw_handoff/system.hwh] 0] zynq.hwh
"""
