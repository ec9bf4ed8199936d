"""Boards people own: which device, oscillator and serial line each has, and how it is loaded.

Pins are looked up in amaranth-boards when a bitstream is made (`chip.boards`); those of boards that
it lacks are here, as litex-boards has them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from intaglio.codegen.area.clocks import LOOPS, Pll, check_clock, divisor, pll
from intaglio.codegen.area.devices import DEVICES, Device, device
from intaglio.errors import BuildError, Remedy

# Bits a second of a line, those of the FT2232H above 3 Mbaud by its divisors 1 and 2.
RATES = (12_000_000, 6_000_000, 3_000_000, 2_000_000, 1_000_000, 500_000, 250_000, 115_200)
LINE = {"luts": 480, "ffs": 250, "rams": 1}  # of link, queue and UART, measured by synthesis
DEFAULT = "ecp5-85k"  # the target where neither a target nor a board is named


@dataclass(frozen=True)
class Spi:
    """Wires by which a host is the master of an SPI: of each port its resource in amaranth-boards
    and the part of it, if it has parts. `url` is pyftdi's name of the chip's channel; `hertz` of
    its clock."""

    pins: Mapping[str, tuple[str, str]]
    url: str
    hertz: int


@dataclass(frozen=True)
class Board:
    """A board with a serial line to its host.

    platforms       module and class of amaranth-boards, by the target that each of its models
                    holds; the first is the one where none is named.
    sites           pins `clk`, `rx` and `tx` of a board that amaranth-boards lacks, all LVCMOS33.
    oscillator_mhz  what its clock pin gets.
    usb             the chip between the line and USB, whose fastest rate is `fastest` bits/s.
    port            the serial port's name under Linux, where nothing else is plugged in.
    loaders         commands that load it, the file's name to follow.
    high            outputs that are held at 1: (resource, subsignal).
    spi             an SPI line beside it, if the board's wiring has one.
    """

    name: str
    title: str
    platforms: Mapping[str, tuple[str, str]]
    oscillator_mhz: float
    usb: str
    fastest: int
    port: str
    loaders: tuple[tuple[str, ...], ...]
    high: tuple[tuple[str, str], ...] = field(default=())
    spi: Spi | None = None
    sites: Mapping[str, str] = field(default_factory=dict)

    def loading(self, file: Path | str) -> list[list[str]]:
        """The commands that load a bitstream, of which any one does."""
        return [[*command, str(file)] for command in self.loaders]


BOARDS = {
    board.name: board
    for board in (
        Board(
            "ulx3s",
            "ULX3S",
            {
                "ecp5-85k": ("ulx3s", "ULX3S_85F_Platform"),
                "ecp5-25k": ("ulx3s", "ULX3S_25F_Platform"),
            },
            oscillator_mhz=25,
            usb="FT231X",
            fastest=3_000_000,
            port="/dev/ttyUSB0",
            loaders=(("openFPGALoader", "-b", "ulx3s"), ("fujprog",)),
            # The ESP32 beside the FPGA may load another design, unless this is 1.
            high=(("esp32", "gpio0"),),
        ),
        Board(
            "icebreaker",
            "iCEBreaker",
            {"ice40-up5k": ("icebreaker", "ICEBreakerPlatform")},
            oscillator_mhz=12,
            usb="FT2232H, second channel",
            fastest=12_000_000,
            port="/dev/ttyUSB1",
            loaders=(("iceprog",), ("openFPGALoader", "-b", "ice40_generic")),
            # The wires of the flash, with which the design is loaded; ADBUS3 selects the design
            # and not the flash, from v1.0e of the board on: it lights the red LED too.
            spi=Spi(
                {
                    "sck": ("spi_flash_1x", "clk"),
                    "copi": ("spi_flash_1x", "copi"),
                    "cipo": ("spi_flash_1x", "cipo"),
                    "cs_n": ("led_r", ""),
                },
                url="ftdi://ftdi:2232h/1",
                hertz=12_000_000,
            ),
        ),
        Board(
            "colorlight-i5",
            "Colorlight i5 on its extension board",
            {"ecp5-25k": ("", "")},
            oscillator_mhz=25,
            usb="DAPLink",
            fastest=115_200,
            port="/dev/ttyACM0",
            loaders=(("openFPGALoader", "-b", "colorlight-i5"), ("ecpdap", "program")),
            sites={"clk": "P3", "rx": "H18", "tx": "J17"},
        ),
        Board(
            "tang-nano-20k",
            "Tang Nano 20K",
            {"gowin-gw2ar-18c": ("", "")},
            oscillator_mhz=27,
            usb="BL616",
            fastest=115_200,
            port="/dev/ttyUSB1",
            loaders=(("openFPGALoader", "-b", "tangnano20k"),),
            sites={"clk": "4", "rx": "70", "tx": "69"},
        ),
        Board(
            "tang-nano-9k",
            "Tang Nano 9K",
            {"gowin-gw1nr-9c": ("tang_nano_9k", "TangNano9kPlatform")},
            oscillator_mhz=27,
            usb="BL702",
            fastest=115_200,
            port="/dev/ttyUSB1",
            loaders=(("openFPGALoader", "-b", "tangnano9k"),),
        ),
    )
}


@dataclass(frozen=True)
class Place:
    """Where a design goes and how fast: `board` is None for a bare device, `loop` where the board's
    oscillator is the clock as it is."""

    device: Device
    clock_mhz: float
    board: Board | None = None
    loop: Pll | None = None

    @property
    def room(self) -> Device:
        """The device without what the board's serial line takes of it."""
        if self.board is None:
            return self.device
        luts, ffs, rams = (getattr(self.device, name) - n for name, n in LINE.items())
        return replace(self.device, luts=luts, ffs=ffs, rams=rams)

    def others(self, target: str | None, clock_mhz: float | None) -> list[tuple[Remedy, Place]]:
        """Where else the design could go, and the option that says so, the fewest LUTs first: any
        device; or, of a board, its other models and other boards. `target` and `clock_mhz` are
        what was asked for, and stay."""
        found: list[tuple[Remedy, Place]] = []
        own = None if self.board is None else self.board.name
        for name in DEVICES if self.board is None else self.board.platforms:
            if name != self.device.name and DEVICES[name].family != "generic":
                with suppress(BuildError):  # the board cannot make that clock
                    found.append((Remedy("target", name), place(name, clock_mhz, own)))
        for name in BOARDS if self.board is not None and target is None else ():
            if name != own:
                with suppress(BuildError):
                    found.append((Remedy("board", name), place(None, clock_mhz, name)))
        return sorted(found, key=lambda one: one[1].device.luts)


def board(name: str, target: str | None = None) -> Board:
    """The board called `name`, which must hold the target, if one is named. Raises BuildError."""
    if name not in BOARDS:
        raise BuildError(f"The board must be one of {', '.join(BOARDS)}, not {name!r}.")
    found = BOARDS[name]
    if target is not None and target not in found.platforms:
        raise BuildError(
            f"The target must be {' or '.join(found.platforms)} for the board {name}, not {target}",
            tuple(Remedy("target", other) for other in found.platforms),
        )
    return found


def place(
    target: str | None = None, clock_mhz: float | None = None, board_name: str | None = None
) -> Place:
    """Target, clock and board, what is None chosen by the others: a board's first target, and the
    clock that designs reach on the device, or its oscillator's where no loop makes another.

    Raises BuildError for names that there are not, a board without that target, or a clock that
    the board cannot make.
    """
    chosen = None if board_name is None else board(board_name, target)
    if target is None:
        target = DEFAULT if chosen is None else next(iter(chosen.platforms))
    chip = device(target)
    usual = chip.clock_mhz
    if chosen is not None and chip.family not in LOOPS:
        usual = chosen.oscillator_mhz
    wanted = usual if clock_mhz is None else clock_mhz
    check_clock(wanted)
    if chosen is None or wanted == chosen.oscillator_mhz:
        return Place(chip, wanted, chosen)
    loop = pll(chip.family, chosen.oscillator_mhz, wanted)
    return Place(chip, loop.mhz, chosen, loop)


def baud_of(found: Board, clock_mhz: float) -> int:
    """Bits a second of a board's line where none are asked for: the fastest of `RATES` that its USB
    chip and the clock make."""
    for rate in RATES:
        if rate <= found.fastest:
            with suppress(BuildError):
                divisor(clock_mhz * 1e6, rate)
                return rate
    raise BuildError(
        f"The clock must make one of {', '.join(map(str, RATES))} baud for the board {found.name},"
        f" not be {clock_mhz:g} MHz; build again with another --clock."
    )
