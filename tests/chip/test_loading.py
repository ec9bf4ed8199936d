"""What a board chooses: target, clock, line; and how it is loaded."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from networks import tiny
from test_board import needs_boards
from tools import Cli, refused

import intaglio
from intaglio.chip.bitstream import BitstreamResult, Routed
from intaglio.chip.boards import wiring
from intaglio.chip.loading import how_to_load
from intaglio.chip.protocol import line_rate
from intaglio.codegen.area.boards import BOARDS, DEFAULT, RATES, baud_of, place
from intaglio.codegen.area.clocks import CLOSE, LOOPS, divisor
from intaglio.codegen.area.devices import DEVICES
from intaglio.errors import BuildError


def test_a_board_chooses_target_and_clock() -> None:
    bare, icebreaker, ulx3s = place(), place(board_name="icebreaker"), place(board_name="ulx3s")
    assert (bare.device.name, bare.clock_mhz, bare.board) == (DEFAULT, 75, None)
    assert (icebreaker.device.name, icebreaker.clock_mhz) == ("ice40-up5k", 24)
    assert (ulx3s.device.name, ulx3s.clock_mhz) == ("ecp5-85k", 75)
    assert place("ice40-up5k").clock_mhz == 24
    assert place("ecp5-25k", 50, "ulx3s").device.name == "ecp5-25k"
    assert place(clock_mhz=12, board_name="icebreaker").loop is None
    assert bare.room == bare.device
    assert icebreaker.room.luts < icebreaker.device.luts


@given(
    name=st.sampled_from(sorted(BOARDS)),
    clock=st.one_of(st.none(), st.floats(-1, 400), st.integers(1, 200)),
)
def test_a_place_is_one_that_the_board_can_be(name: str, clock: float | None) -> None:
    try:
        found = place(None, clock, name)
    except BuildError:
        event("refused")
        return
    assert found.board is not None
    assert clock is None or CLOSE * clock <= found.clock_mhz <= clock * (1 + 1e-9)
    baud = baud_of(found.board, found.clock_mhz)
    assert baud in RATES
    assert divisor(found.clock_mhz * 1e6, baud) >= 4


def test_every_default_clock_is_one_that_its_boards_make() -> None:
    for found in BOARDS.values():
        for target in found.platforms:
            where = place(target, None, found.name)
            family, usual = DEVICES[target].family, DEVICES[target].clock_mhz
            assert where.clock_mhz == (usual if family in LOOPS else found.oscillator_mhz)
            assert baud_of(found, where.clock_mhz) == min(found.fastest, 6_000_000)


@pytest.mark.parametrize("name", BOARDS)
def test_oscillators_are_those_of_the_boards(name: str) -> None:
    needs_boards()
    for target in BOARDS[name].platforms:
        assert wiring(BOARDS[name], target).clock_mhz == BOARDS[name].oscillator_mhz


def test_a_build_for_a_board_says_its_clock_and_its_line(cli: Cli, tmp_path: Path) -> None:
    intaglio.save(tiny(), tmp_path / "tiny.intaglio")
    code, out, err = cli("build", "tiny.intaglio", "--board", "icebreaker", "-o", "b")
    assert code == 0, err
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert (manifest["board"], manifest["target"], manifest["clock_mhz"]) == (
        "icebreaker", "ice40-up5k", 24,
    )  # fmt: skip
    assert "at 24 MHz" in out
    assert "The clock is ice40-up5k's default; --clock sets another." in out
    rate = line_rate(manifest, 600_000)
    assert f"(6,000,000 baud) carries at most {rate:.1f} frames/s of " in out
    assert "next: intaglio bitstream b" in out
    code, out, _ = cli("build", "tiny.intaglio", "--target", "ice40-up5k", "--clock", 12, "-o", "b")
    assert "at 12 MHz" in out
    assert "default" not in out
    assert "serial line" not in out
    assert json.loads((tmp_path / "b/manifest.json").read_text())["board"] is None
    refused(
        cli("build", "tiny.intaglio", "--board", "icebreaker", "--clock", 13, "-o", "c"),
        "The clock must be one that a PLL makes of the board's 12 MHz, not 13 MHz; build with"
        " --clock 12",
    )
    refused(
        cli("build", "tiny.intaglio", "--board", "arty", "-o", "c"),
        f"The board must be one of {', '.join(BOARDS)}, not 'arty'",
    )
    refused(
        cli("build", "tiny.intaglio", "--board", "ulx3s", "--target", "xc7z020", "-o", "c"),
        "The target must be ecp5-85k or ecp5-25k for the board ulx3s, not xc7z020",
    )
    refused(cli("bitstream", "b", "--load"), "--load must go with a board")
    assert not (tmp_path / "c").exists()


def test_both_rates_of_a_board_are_named() -> None:
    seeds, resources = (Routed(1, 30.0, 1.0),), {"luts": 1, "ffs": 1, "rams": 1, "multipliers": 1}
    made = BitstreamResult("ice40-up5k", "icebreaker", 24.0, seeds, resources, 24_000, ("x.bin",),
                           None, 1.0, 43.4)  # fmt: skip
    words = "1000.0 frames/s on the device, at most 43.4 frames/s over the serial line"
    assert words in made.sentence()


def test_a_line_carries_bits_and_no_more() -> None:
    """2,304 bytes a frame, 10 bits a byte."""
    port = {"beats": 768, "data_width": 24}
    manifest = {"input": port, "outputs": [{"beats": 48, "data_width": 16}]}
    assert line_rate(manifest, 100_000) == pytest.approx(100_000 / 2304)
    busy = {"input": {"beats": 1, "data_width": 8}, "outputs": [{"beats": 100, "data_width": 16}]}
    assert line_rate(busy, 100_000) == pytest.approx(100_000 / 300)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a build whose bitstream is made in no time."""
    from intaglio.chip import bitstream as module

    folder = tmp_path / "b"
    (folder / "bitstream").mkdir(parents=True)
    made = BitstreamResult("ice40-up5k", "icebreaker", 24.0, (Routed(1, 30.0, 1.0),),
                           dict.fromkeys(("luts", "ffs", "rams", "multipliers"), 1.0), 24_000,
                           ("bitstream/board.bin",), None, 1.0, 43.4)  # fmt: skip
    monkeypatch.setattr(module, "bitstream", lambda *a, **k: made)
    return folder


def loader(folder: Path, name: str, code: int) -> Path:
    """A program that notes what it is told."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$0 $@" >> {folder}/told\nexit {code}\n')
    path.chmod(0o755)
    return folder


def test_loading(cli: Cli, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    file = packed / "bitstream/board.bin"
    by_hand = f"iceprog {file} (or: openFPGALoader -b ice40_generic {file})"
    asked = ("bitstream", packed, "--board", "icebreaker")
    code, out, err = cli(*asked)
    assert code == 0, err
    assert f"next: {by_hand}" in out
    assert f"then: python {packed}/bitstream/host.py --port /dev/ttyUSB1" in out
    refused(cli(*asked, "--load"), "iceprog or openFPGALoader must be installed", by_hand)
    tools = loader(tmp_path / "tools", "openFPGALoader", 0)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}/usr/bin:/bin")
    code, out, err = cli(*asked, "--load")
    assert code == 0, err
    assert f"loaded by openFPGALoader -b ice40_generic {file}" in out
    assert (tools / "told").read_text() == f"{tools}/openFPGALoader -b ice40_generic {file}\n"
    loader(tools, "iceprog", 3)
    refused(cli(*asked, "--load"), "iceprog must load the iCEBreaker, but ended with 3", str(file))


def test_every_board_says_how_to_load_it() -> None:
    for found in BOARDS.values():
        assert found.loaders
        assert found.port.startswith(("/dev/ttyUSB", "/dev/ttyACM"))
        assert how_to_load(found, Path("x.bit")).count("x.bit") == len(found.loaders)
