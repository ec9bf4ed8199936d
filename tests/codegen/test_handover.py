"""What a build has for integrators: the wrapper, lists of sources, the data sheet, ROMs by path."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from networks import Layers, pyramid, skip
from tools import needs, needs_modules, needs_tools

from intaglio.chip.toolchain import find_tool
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.folder.bench import verilog_file
from intaglio.codegen.structure.ports import Port
from intaglio.program import Program


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(pyramid(), lanes=80, target="generic")


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("handover") / "a build"
    bundle.write(place)
    return place


def ports(bundle: Bundle) -> list[Port]:
    facts = bundle.manifest
    return [Port.from_json(entry) for entry in (facts["input"], *facts["outputs"])]


def test_streams_are_whole_bytes_and_the_wrapper_has_them_all(bundle: Bundle) -> None:
    top, wrapper = (bundle.files[f"rtl/{name}.v"].decode() for name in ("top", "top_axi"))
    for port in ports(bundle):
        assert port.data_width % 8 == 0
        inside = re.search(rf"\[(\d+):0\] {port.name}_tdata;", top)
        outside = re.search(rf"\[(\d+):0\] {port.name}_tdata,", wrapper)
        assert inside is not None
        assert outside is not None
        assert inside[1] == outside[1] == str(port.data_width - 1)
        for wire in ("tdata", "tvalid", "tready", "tlast"):
            assert wrapper.count(f".{port.name}_{wire}(") == 1


def named(layer: str) -> Program:
    net = Layers((3, 4, 4))
    return net.finish([net.conv(layer, "image", net.weights("w", 2, 3, 1))])


def test_the_wrapper_takes_no_name_of_the_design() -> None:
    assert build(named("plain"), lanes=4).manifest["wrapper"] == "top_axi"
    bundle = build(named("axi"), lanes=4)
    modules = re.findall(r"^module (\w+)", bundle.files["rtl/top.v"].decode(), re.MULTILINE)
    name = bundle.manifest["wrapper"]
    assert name not in modules
    assert f"\nmodule {name} (" in bundle.files[f"rtl/{name}.v"].decode()


STUB = """\
module top(input clk, input rst, output frame_error,
  input [7:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
  output [7:0] m_axis_out0_tdata, output m_axis_out0_tvalid, input m_axis_out0_tready,
  output m_axis_out0_tlast);
  reg [7:0] taken = 0;
  assign frame_error = 0, s_axis_tready = 1, m_axis_out0_tlast = 0;
  assign m_axis_out0_tdata = taken, m_axis_out0_tvalid = ~rst;
  always @(posedge clk) if (rst) taken <= 0; else if (s_axis_tvalid) taken <= taken + 1;
endmodule
module bench;
  reg aclk = 0, aresetn = 0;
  wire ready, valid;
  wire [7:0] count;
  integer accepted = 0, n;
  top_axi dut(.aclk(aclk), .aresetn(aresetn), .s_axis_tdata(8'd0), .s_axis_tvalid(1'b1),
    .s_axis_tready(ready), .s_axis_tlast(1'b0), .m_axis_out0_tdata(count), .m_axis_out0_tkeep(),
    .m_axis_out0_tvalid(valid), .m_axis_out0_tready(1'b1), .m_axis_out0_tlast(), .frame_error());
  task edge_; begin
    #4 if (ready) accepted = accepted + 1;
    #1 aclk = 1; #5 aclk = 0;
  end endtask
  initial begin
    for (n = 0; n < 3; n = n + 1) edge_;
    if (accepted != 0 || valid) $display("FAIL a beat in reset");
    aresetn = 1;
    for (n = 0; n < 2; n = n + 1) begin
      if (ready || valid) $display("FAIL released at once");
      edge_;
    end
    if (!ready || !valid) $display("FAIL not released after two edges");
    for (n = 0; n < 5; n = n + 1) edge_;
    if (accepted != 5 || count != 5) $display("FAIL %0d accepted, %0d taken", accepted, count);
    #2 aresetn = 0;
    #1 if (ready || valid) $display("FAIL not asserted at once");
    #1 aresetn = 1;
    accepted = 0;
    edge_;
    edge_;
    if (accepted != 0 || count != 0) $display("FAIL a short reset is lost");
    $display("DONE");
  end
endmodule
"""


def run(command: list[str], where: Path) -> str:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_reset_is_asserted_at_once_and_no_beat_is_lost(tmp_path: Path) -> None:
    needs("icarus")
    net = Layers((1, 3, 3))
    program = net.finish([net.conv("c", "image", net.weights("w", 1, 1, 1))])
    text = build(program, lanes=2).files["rtl/top_axi.v"].decode()
    (tmp_path / "bench.v").write_text(text + STUB)
    run(["iverilog", "-g2005", "-Wall", "-s", "bench", "-o", "bench", "bench.v"], tmp_path)
    assert run(["vvp", "-n", "bench"], tmp_path).split("\n") == ["DONE", ""]


def test_the_file_list_is_complete(folder: Path) -> None:
    needs("icarus")
    run(["iverilog", "-g2005", "-s", "top_axi", "-o", "/dev/null", "-f", "top.f"], folder)


ROM = """\
module bench;
  reg clk = 0;
  wire [7:0] data;
  intaglio_rom #(.WIDTH(8), .DEPTH(2), .FILE("rom/a.hex"), .STYLE({style}))
    rom(.clk(clk), .en(1'b1), .addr(1'b1), .data(data));
  initial begin #1 clk = 1; #1 $display("%h", data); end
endmodule
module rom(input clk, input addr, output [7:0] data);
  intaglio_rom #(.WIDTH(8), .DEPTH(2), .FILE("rom/a.hex"), .STYLE({style}))
    rom(.clk(clk), .en(1'b1), .addr(addr), .data(data));
endmodule
"""


@pytest.mark.parametrize("style", [0, 1, 2])
def test_roms_are_found_from_elsewhere(style: int, tmp_path: Path) -> None:
    """By Icarus and yosys; `test_zynq_drivers.py` has Verilator."""
    needs("icarus")
    needs_tools("yosys")
    place, away = tmp_path / "a build", tmp_path / "away"
    (place / "rom").mkdir(parents=True)
    away.mkdir()
    (place / "rom" / "a.hex").write_text("5a\na5\n")
    text = verilog_file("intaglio_rom.v") + ROM.format(style=style)
    define = f'-DINTAGLIO_ROM_PATH="{place}/"'
    for where, told in ((place, []), (away, [define])):
        (where / "bench.v").write_text(text)
        run(["iverilog", "-g2005", *told, "-s", "bench", "-o", "bench", "bench.v"], where)
        assert run(["vvp", "-n", "bench"], where) == "a5\n"
    yosys = find_tool("yosys")
    assert yosys is not None
    shutil.copytree(place / "rom", away / "b" / "rom")
    script = (
        'read_verilog -defer -DINTAGLIO_ROM_PATH="b/" bench.v; hierarchy -top rom; proc; flatten;'
        " memory -nomap; write_verilog -noattr out.v"
    )
    run([yosys, "-q", "-p", script], away)
    assert re.findall(r"8'h(5a|a5)", (away / "out.v").read_text()) == ["5a", "a5"]


def test_fusesoc_reads_the_core(folder: Path, tmp_path: Path) -> None:
    needs_modules("fusesoc")
    command = [sys.executable, "-m", "fusesoc.main", "--cores-root", str(folder), "run",
               "--build-root", str(tmp_path / "work"), "--setup", "--target", "lint",
               "intaglio:build:top"]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    copied = {path.name for path in (tmp_path / "work").rglob("*.hex")}
    assert copied == {path.name for path in (folder / "rom").iterdir()}
    assert any((tmp_path / "work").rglob("*.vc"))  # what Verilator is told


def test_the_component_is_valid(bundle: Bundle) -> None:
    """By the standard's own schema."""
    needs_modules("pyEDAA", "lxml")
    from lxml import etree
    from pyEDAA import IPXACT

    schema = Path(IPXACT.__file__).parent / "Schema" / "ieee-1685-2014" / "index.xsd"
    etree.XMLSchema(etree.parse(schema)).assertValid(
        etree.fromstring(bundle.files["component.xml"])
    )


def test_the_component_has_the_ports_of_the_wrapper(bundle: Bundle) -> None:
    space = {"x": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}
    top = ElementTree.fromstring(bundle.files["component.xml"])
    order = [child.tag.partition("}")[2] for child in top]
    assert order == ["vendor", "library", "name", "version", "busInterfaces", "model", "fileSets",
                     "description"]  # fmt: skip
    text = bundle.files["rtl/top_axi.v"].decode().split(");\n", 1)[0]
    declared = {
        name: (way, high)
        for way, high, name in re.findall(r"(input|output) wire (?:\[(\d+):0\] )?(\w+)", text)
    }
    found = {}
    for port in top.iterfind(".//x:model/x:ports/x:port", space):
        wire = port.find("x:wire", space)
        assert wire is not None
        left = wire.findtext("x:vectors/x:vector/x:left", "", space)
        way = {"in": "input", "out": "output"}[wire.findtext("x:direction", "", space)]
        found[port.findtext("x:name", "", space)] = (way, left)
    assert found == declared
    joined = [e.text for e in top.iterfind(".//x:physicalPort/x:name", space)]
    clocked = {"aclk", "aresetn"}
    assert set(joined) == set(declared) - {bundle.manifest["frame_error"]}
    assert sorted(set(joined) - clocked) == sorted(n for n in joined if n not in clocked)
    names = {e.text for e in top.iterfind(".//x:file/x:name", space)}
    assert names <= set(bundle.files)
    assert names == {path for path in bundle.files if path.startswith(("rtl/", "rom/"))}
    (module,) = top.iterfind(".//x:moduleName", space)
    assert module.text == bundle.manifest["wrapper"]


def test_the_data_sheet_says_what_the_manifest_has(bundle: Bundle) -> None:
    text, facts = bundle.files["datasheet.md"].decode(), bundle.manifest
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert f"{facts['cycles_per_frame']:,}" in rows["cycles a frame, one after another"]
    assert f"{facts['latency_cycles']:,} cycles" in rows["to its last"]
    assert facts["program"] in rows["Program"]
    for port in ports(bundle):
        cells = [cell.strip() for cell in rows[f"`{port.name}`"].split("|")[2:-1]]
        shape = " x ".join(map(str, port.shape))
        assert cells == [port.tensor, shape, str(port.type), str(port.lanes),
                         str(port.beats_per_pixel), str(port.beats)]  # fmt: skip
        assert f"`{port.name}_tdata`" in rows
    for path in ("rtl/top.v", "rtl/intaglio_rom.v", "rtl/top_axi.v"):
        assert path in bundle.files
        assert f"`{path}`" in text
    assert "INTAGLIO_ROM_PATH" in text


def test_a_build_of_another_name(tmp_path: Path) -> None:
    files = build(skip(), lanes=8, name="eye", target="xc7z020").files
    assert {"eye.f", "eye.core", "rtl/eye_axi.v", "driver/eye_net.h"} <= set(files)
    assert b"module eye_axi (" in files["rtl/eye_axi.v"]
    assert b"-reference eye_axi net" in files["scripts/zynq.tcl"]
    assert b"eye_net = {&eye_input, eye_outputs, 1}" in files["driver/eye_net.h"]
