"""Boards: pins, clocks, and the serial line that the host program plays to."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import tiny
from tools import Cli, needs, needs_tools, refused

from intaglio.chip import host, protocol
from intaglio.chip.bitstream import bitstream, surrounding
from intaglio.chip.boards import LineName, constraints, wiring
from intaglio.chip.gates import check_board
from intaglio.chip.synthesis import FOLDER
from intaglio.codegen.area.boards import BOARDS, board
from intaglio.codegen.area.clocks import CLOSE, pll
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import build
from intaglio.errors import BuildError, ToolError

PLACES = [(name, target) for name, found in BOARDS.items() for target in found.platforms]


def made(
    folder: Path,
    name: str,
    target: str,
    clock_mhz: float,
    baud: int | None,
    line: LineName = "uart",
) -> Path:
    """A build with the board's files."""
    build(tiny(), target=target, lanes=6, clock_mhz=clock_mhz).write(folder)
    (folder / FOLDER).mkdir()
    around = surrounding(json.loads((folder / "manifest.json").read_text()), name, baud, line)
    for path, text in around.files.items():
        (folder / FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / FOLDER / path).write_text(text)
    return folder


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(["ecp5", "ice40"]),
    source=st.sampled_from([12.0, 25.0, 48.0, 100.0]),
    wanted=st.floats(1, 300),
)
def test_a_loop_is_within_its_limits_and_never_too_fast(
    family: str, source: float, wanted: float
) -> None:
    try:
        loop = pll(family, source, wanted)
    except BuildError:
        return
    assert CLOSE * wanted <= loop.mhz <= wanted * (1 + 1e-9)
    detector = source / loop.reference
    oscillator = loop.mhz * loop.output
    if family == "ecp5":
        assert 3.125 <= detector <= 400
        assert 400 <= oscillator <= 800
    else:
        assert 10 <= detector <= 133
        assert 533 <= oscillator <= 1066
        assert 16 <= loop.mhz <= 275


def test_clocks_of_the_boards() -> None:
    assert pll("ecp5", 25, 75).mhz == 75
    assert pll("ecp5", 25, 62.5).mhz == 62.5
    assert pll("ice40", 12, 24).mhz == 24
    with pytest.raises(BuildError, match=r"The clock must be .* 12 MHz, not 13 MHz; build with"):
        pll("ice40", 12, 13)


@pytest.mark.parametrize(("name", "target"), PLACES)
def test_every_board_has_its_pins(name: str, target: str) -> None:
    needs_boards()
    wires = wiring(board(name, target), target)
    text = constraints(device(target).family, wires)
    sites = {pin.port: pin.site for pin in wires.pins}
    if name == "ulx3s":
        assert (wires.clock_mhz, sites) == (
            25,
            {"clk": "G2", "rx": "M1", "tx": "L4", "esp32_gpio0": "L2"},
        )
        assert 'LOCATE COMP "rx" SITE "M1";\nIOBUF PORT "rx" IO_TYPE=LVCMOS33;\n' in text
        assert 'FREQUENCY PORT "clk" 25 MHZ;' in text
    elif name == "colorlight-i5":
        assert (wires.clock_mhz, sites) == (25, {"clk": "P3", "rx": "H18", "tx": "J17"})
        assert 'LOCATE COMP "tx" SITE "J17";\nIOBUF PORT "tx" IO_TYPE=LVCMOS33;\n' in text
    elif name == "tang-nano-20k":
        assert (wires.clock_mhz, sites) == (27, {"clk": "4", "rx": "70", "tx": "69"})
        assert 'IO_LOC "rx" 70;\nIO_PORT "rx" IO_TYPE=LVCMOS33;\n' in text
    elif name == "tang-nano-9k":
        assert (wires.clock_mhz, sites) == (27, {"clk": "52", "rx": "18", "tx": "17"})
        assert 'IO_LOC "tx" 17;\nIO_PORT "tx" PULL_MODE=UP IO_TYPE=LVCMOS33;\n' in text
    else:
        assert (wires.clock_mhz, sites) == (12, {"clk": "35", "rx": "6", "tx": "9"})
        assert text.splitlines() == [
            "set_io clk 35",
            "set_io -pullup yes rx 6",
            "set_io -pullup yes tx 9",
            "set_frequency clk 12",
        ]


def needs_boards() -> None:
    """Skip without amaranth-boards; with CI set it must be there."""
    import os

    if not os.environ.get("CI"):
        pytest.importorskip("amaranth_boards")


def test_refusals(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_boards()
    folder = tmp_path / "build"
    build(tiny(), target="ice40-up5k", lanes=6, clock_mhz=12).write(folder)
    names = f"The board must be one of {', '.join(BOARDS)}, not 'arty'"
    refused(cli("bitstream", folder, "--board", "arty"), names)
    refused(
        cli("bitstream", folder, "--board", "ulx3s"),
        "The target must be ecp5-85k or ecp5-25k for the board ulx3s, not ice40-up5k",
    )
    refused(
        cli("bitstream", folder, "--board", "icebreaker", "--baud", 5_000_000),
        "The baud rate must be a clock of 12 MHz divided",
    )
    assert not (folder / FOLDER).exists()
    monkeypatch.setitem(sys.modules, "amaranth_boards.icebreaker", None)
    with pytest.raises(ToolError, match=r"amaranth-boards must be installed for the board iceb"):
        wiring(board("icebreaker", "ice40-up5k"), "ice40-up5k")


@pytest.mark.rtl
def test_the_host_program_gets_the_simulators_integers_over_the_line(tmp_path: Path) -> None:
    """Bit by bit through rx and tx of the board's Verilog, framed by the host program itself."""
    needs("verilator")
    needs_boards()
    folder = made(tmp_path / "build", "ulx3s", "ecp5-85k", 25, 25_000_000 // 4)
    found = check_board(folder, frames=5, netlist=False)
    assert (found.beats, found.mismatches) == (5 * 36, 0)
    beside = folder / FOLDER / "host.py"
    assert beside.read_text() == Path(host.__file__).read_text()
    assert host.facts_of(folder / FOLDER / "line.json")["baud"] == 25_000_000 // 4
    # Another expectation than the board's answer is noticed.
    stored = next((folder / "bench" / "expected").glob("*.txt"))
    first, *rest = stored.read_text().splitlines()
    last, data, mask = first.split()
    stored.write_text("\n".join([f"{last} {int(data, 16) ^ 1:x} {mask}", *rest]) + "\n")
    assert check_board(folder, frames=1, netlist=False).mismatches == 1


@pytest.mark.rtl
def test_the_host_program_gets_them_over_spi_too(tmp_path: Path) -> None:
    """Bit by bit through sck, copi and cipo, in the transactions that the host program makes."""
    needs("verilator")
    needs_boards()
    folder = made(tmp_path / "build", "icebreaker", "ice40-up5k", 12, None, "spi")
    pins = (folder / FOLDER / "board.pcf").read_text().splitlines()
    assert pins == [
        "set_io clk 35", "set_io sck 15", "set_io copi 14", "set_io cipo 17", "set_io cs_n 11",
        "set_frequency clk 12",
    ]  # fmt: skip
    found = check_board(folder, frames=5, netlist=False)
    assert (found.beats, found.mismatches) == (5 * 36, 0)
    facts = host.facts_of(folder / FOLDER / "line.json")
    assert (facts["url"], facts["hertz"]) == ("ftdi://ftdi:2232h/1", 12_000_000)


def test_lines_that_a_board_has_not(cli: Cli, tmp_path: Path) -> None:
    needs_boards()
    build(tiny(), target="ecp5-25k", lanes=6, clock_mhz=25).write(tmp_path / "b")
    refused(
        cli("bitstream", "b", "--board", "ulx3s", "--line", "spi"),
        "--line must be uart on the ULX3S, which has no SPI",
    )
    build(tiny(), board="icebreaker", lanes=6).write(tmp_path / "c")
    refused(
        cli("bitstream", "c", "--line", "spi", "--baud", 9600), "--baud must go with --line uart"
    )


def test_a_board_that_says_nothing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so are a port that is not there, and a build that is not."""

    class Silent:
        SerialException = OSError

        def Serial(self, port: str, baud: int, timeout: float) -> None:  # noqa: N802  # pyserial's
            raise OSError(f"could not open port {port}")

    monkeypatch.setitem(sys.modules, "serial", Silent())
    monkeypatch.setattr(sys, "argv", ["host.py", "--port", "COM77", "--build", str(tmp_path)])
    assert host.main() == 2
    assert "could not open port COM77" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "serial", None)
    assert host.main() == 2
    assert "pip install pyserial" in capsys.readouterr().err
    decoder = protocol.Decoder([8])
    with pytest.raises(TimeoutError, match="nothing came for 0 s after 3 bytes"):
        protocol.exchange(b"abc", decoder, [1], lambda data: None, lambda: b"", patience=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target", "clock_mhz"),
    [
        ("ulx3s", "ecp5-25k", 50),
        ("icebreaker", "ice40-up5k", 24),
        ("icebreaker", "ice40-up5k", 12),
        ("colorlight-i5", "ecp5-25k", 50),
        ("tang-nano-20k", "gowin-gw2ar-18c", 27),
        ("tang-nano-9k", "gowin-gw1nr-9c", 27),
    ],
)
@pytest.mark.parametrize("line", ["uart", "spi"])
def test_board_bitstreams(
    name: str, target: str, clock_mhz: float, line: LineName, tmp_path: Path
) -> None:
    """Synthesised, the netlist with its PLL played to by the host program, placed and packed."""
    needs_tools("yosys", "nextpnr-ecp5", "nextpnr-ice40", "nextpnr-himbaechel")
    needs_tools("ecppack", "icepack", "gowin_pack")
    needs("verilator")
    build(tiny(), target=target, lanes=6, clock_mhz=clock_mhz).write(tmp_path / "build")
    if line == "spi" and name != "icebreaker":
        pytest.skip("a board without SPI")
    found = bitstream(tmp_path / "build", seeds=1, board=name, line=line)
    assert (found.board, found.clock_mhz, found.met) == (name, clock_mhz, True)
    assert found.gate is not None
    assert (found.gate["beats"], found.gate["mismatches"]) == (36, 0)
    assert (tmp_path / "build" / found.files[0]).stat().st_size > 10_000
