"""Constraints and tool scripts of a bundle: text only, nothing here runs a tool."""

from __future__ import annotations

from intaglio.codegen.area.devices import Device

VIVADO, QUARTUS = "scripts/vivado.tcl", "scripts/quartus.tcl"
SOURCES = ("rtl/top.v", "rtl/intaglio_rom.v")
SYNTHESIS = {
    "ecp5": "synth_ecp5",
    "ice40": "synth_ice40 -dsp",
    "gowin": "synth_gowin",
    "gatemate": "synth_gatemate -luttree -nomx8",
    # For the resources; Vivado makes the bitstream.
    "xc7": "synth_xilinx -family xc7 -noiopad",
    "cyclonev": "synth_intel_alm -family cyclonev -noiopad",
    "xcup": "synth_xilinx -family xcup -noiopad",
}
# The middle of `synth_ice40 -dsp` in yosys 0.70 without `ice40_dsp`, which packs registers and
# adders into the multipliers: where the registered products of two are added, it takes one register
# twice and leaves that product undefined.
ICE40_COARSE = """\
opt_expr
opt_clean
opt -nodffe -nosdff
fsm
opt
wreduce
peepopt
opt_clean
share
techmap -map +/cmp2lut.v -D LUT_WIDTH=4
opt_expr
opt_clean
memory_dff
wreduce t:$mul
techmap -map +/mul2dsp.v -map +/ice40/dsp_map.v -D DSP_A_MAXWIDTH=16 -D DSP_B_MAXWIDTH=16 \
-D DSP_A_MINWIDTH=2 -D DSP_B_MINWIDTH=2 -D DSP_Y_MINWIDTH=11 -D DSP_NAME=$__MUL16X16
select a:mul2dsp
setattr -unset mul2dsp
opt_expr -fine
wreduce
select -clear
chtype -set $mul t:$__soft_mul
alumacc
opt
memory -nomap
opt_clean
"""


def synthesis(family: str, top: str) -> str:
    """yosys' commands, a line each, between reading the Verilog and writing the netlist."""
    command = f"{SYNTHESIS[family]} -top {top}"
    if family != "ice40":
        return f"{command}\n"
    return f"{command} -run begin:coarse\n{ICE40_COARSE}{command} -run map_ram:\n"


def constraint_files(device: Device, clock_mhz: float) -> dict[str, str]:
    """Path to text: the clock in the tool's own language. Pins are the board's business."""
    period = 1000 / clock_mhz
    xdc = f"create_clock -name clk -period {period:.3f} [get_ports clk]\n"
    match device.family:
        case "ecp5":
            return {"constraints/top.lpf": f'FREQUENCY PORT "clk" {clock_mhz:g} MHZ;\n'}
        case "ice40":
            return {"constraints/top.py": f'ctx.addClock("clk", {clock_mhz:g})\n'}
        case "gowin":
            return {
                "constraints/top.sdc": xdc,
                "constraints/top.cst": "// IO_LOC lines of the board go here.\n",
            }
        case "gatemate":
            return {"constraints/top.ccf": "# Pin_in and Pin_out lines of the board go here.\n"}
        case "cyclonev":
            return {"constraints/top.sdc": xdc}
        case "xc7" | "xcup":
            return {"constraints/top.xdc": xdc}
    return {}


def vendor_script(device: Device) -> str | None:
    """The one script of a device whose bitstreams only its vendor's tool makes."""
    if device.family == "cyclonev":
        return QUARTUS
    return VIVADO if device.family in ("xc7", "xcup", "generic") else None


def script_files(device: Device, top: str, clock_mhz: float) -> dict[str, str]:
    """Path to text: scripts that turn the bundle into a bitstream, to run in its folder."""
    script = vendor_script(device)
    if script is not None:
        return {script: quartus(device, top) if script == QUARTUS else vivado(device, top)}
    files = {"scripts/synth.ys": yosys(device, top)}
    files["scripts/build.sh"] = (
        "#!/bin/sh\n"
        "# Synthesis, place and route, and the bitstream; run in the folder of the build.\n"
        "# YOSYS, NEXTPNR and PACK may name other programs.\n"
        "set -eu\n"
        f"rm -f {top}.json {top}.config {top}.asc {top}.bit {top}.bin {top}.fs report.json\n"
        "${YOSYS:-yosys} -q scripts/synth.ys\n" + "".join(place_and_pack(device, top, clock_mhz))
    )
    return files


def yosys(device: Device, top: str) -> str:
    """The synthesis script."""
    # Deferred, for intaglio_rom has no contents before its parameters are known.
    read = "".join(f"read_verilog -defer {source}\n" for source in SOURCES)
    return f"{read}{synthesis(device.family, top)}write_json {top}.json\n"


def place_and_pack(device: Device, top: str, clock_mhz: float) -> list[str]:
    """Command lines after synthesis."""
    common = f"--json {top}.json --freq {clock_mhz:g} --report report.json"
    if device.family == "ecp5":
        return [
            f"${{NEXTPNR:-nextpnr-ecp5}} --{device.part} --package CABGA381 {common}"
            f" --lpf constraints/top.lpf --lpf-allow-unconstrained --textcfg {top}.config\n",
            f"${{PACK:-ecppack}} {top}.config {top}.bit\n",
        ]
    if device.family == "ice40":
        return [
            f"${{NEXTPNR:-nextpnr-ice40}} --{device.part} --package sg48 {common}"
            f" --pcf-allow-unconstrained --asc {top}.asc\n",
            f"${{PACK:-icepack}} {top}.asc {top}.bin\n",
        ]
    if device.family == "gatemate":
        return [
            f"${{NEXTPNR:-nextpnr-himbaechel}} --device {device.part} {common}"
            f" --vopt ccf=constraints/top.ccf --vopt allow-unconstrained --vopt out={top}.txt\n",
            f"${{PACK:-gmpack}} {top}.txt {top}.bit\n",
        ]
    return [
        f"${{NEXTPNR:-nextpnr-himbaechel}} --device {device.part} {common}"
        f" --vopt family={device.chipdb} --vopt cst=constraints/top.cst --write {top}_pnr.json\n",
        f"${{PACK:-gowin_pack}} -d {device.chipdb} -o {top}.fs {top}_pnr.json\n",
    ]


def quartus(device: Device, top: str) -> str:
    """A project, compiled, its pins virtual; timing met or an error. ROMs are found by their whole
    path, for Quartus looks for them beside the Verilog."""
    reads = "".join(f"set_global_assignment -name VERILOG_FILE {source}\n" for source in SOURCES)
    return (
        "# quartus_sh -t scripts/quartus.tcl, in the folder of the build.\n"
        "load_package flow\nload_package report\n"
        f"project_new -overwrite {top}\n"
        'set_global_assignment -name FAMILY "Cyclone V"\n'
        f"set_global_assignment -name DEVICE {device.part}\n"
        f"set_global_assignment -name TOP_LEVEL_ENTITY {top}\n{reads}"
        "set_global_assignment -name VERILOG_MACRO"
        ' "INTAGLIO_ROM_PATH=\\"[file normalize .]/\\""\n'
        "set_global_assignment -name SDC_FILE constraints/top.sdc\n"
        "set_instance_assignment -name VIRTUAL_PIN ON -to *\n"
        "set_instance_assignment -name VIRTUAL_PIN OFF -to clk\n"
        "execute_flow -compile\n"
        "load_report\n"
        'set panel "Timing Analyzer||Multicorner Timing Analysis Summary"\n'
        'set slack [get_report_panel_data -name $panel -row_name "Worst-case Slack" -col 1]\n'
        'if {$slack < 0} { error "the clock is not met" }\n'
        "project_close\n"
    )


def vivado(device: Device, top: str) -> str:
    """A batch script: project in memory, timing met or an error."""
    part = "xc7z020clg400-1" if device.family == "generic" else device.part
    reads = "".join(f"read_verilog {source}\n" for source in SOURCES)
    constraints = "" if device.family == "generic" else "read_xdc constraints/top.xdc\n"
    return (
        f"# vivado -mode batch -source scripts/vivado.tcl, in the folder of the build.\n"
        f"create_project -in_memory -part {part}\n{reads}{constraints}"
        f"synth_design -top {top} -mode out_of_context\n"
        "opt_design\nplace_design\nroute_design\n"
        "report_timing_summary -file timing.rpt\nreport_utilization -file utilisation.rpt\n"
        'if {[get_property SLACK [get_timing_paths]] < 0} { error "the clock is not met" }\n'
        f"write_checkpoint -force {top}.dcp\n"
    )
