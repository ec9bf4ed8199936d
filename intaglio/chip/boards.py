"""Where things are on a board: its pins, from amaranth-boards, and its constraint file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from intaglio.codegen.area.boards import Board
from intaglio.errors import ToolError
from intaglio.system.extras import remedy

LineName = Literal["uart", "spi"]
LINE = "line.json"  # beside the host program: what that has to know of the board
ATTRIBUTES = {"PULLUP": {1: "-pullup yes", 0: "-pullup no"}}  # iCE40: what its pin file can say


@dataclass(frozen=True)
class Pin:
    """One port of the top on the package."""

    port: str
    site: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Wiring:
    """The oscillator's frequency, and the pins `clk`, those of the line and those held at 1."""

    clock_mhz: float
    pins: tuple[Pin, ...]


def wiring(found: Board, target: str, line: LineName = "uart") -> Wiring:
    """Where things are on the board. Raises ToolError without amaranth-boards."""
    if found.sites:
        plain = {"IO_TYPE": "LVCMOS33"}
        pins = [Pin(port, site, plain) for port, site in found.sites.items()]
        return Wiring(found.oscillator_mhz, tuple(pins))
    module, name = found.platforms[target]
    try:
        platform = getattr(import_module(f"amaranth_boards.{module}"), name)()
    except ModuleNotFoundError as error:
        raise ToolError(
            f"amaranth-boards must be installed for the board {found.name}:"
            f" {remedy('amaranth_boards')}"
        ) from error
    clock = platform.lookup(platform.default_clk)
    wires = {"rx": ("uart", "rx"), "tx": ("uart", "tx")}
    if line == "spi":
        assert found.spi is not None
        wires = dict(found.spi.pins)
    pins = [pin("clk", clock, clock)]
    for port, (resource, part) in wires.items():
        whole = platform.lookup(resource)
        pins.append(pin(port, whole, subsignal(whole, part) if part else whole))
    for resource, part in found.high:
        whole = platform.lookup(resource)
        pins.append(pin(f"{resource}_{part}", whole, subsignal(whole, part)))
    return Wiring(platform.default_clk_frequency / 1e6, tuple(pins))


def subsignal(resource: Any, name: str) -> Any:
    """A part of a resource."""
    return next(part for part in resource.ios if part.name == name)


def pin(port: str, resource: Any, part: Any) -> Pin:
    """The one pin of a part; what the resource says of all its pins holds for it too."""
    return Pin(port, part.ios[0].names[0], {**resource.attrs, **part.attrs})


def constraints(family: str, wires: Wiring) -> str:
    """The constraint file: LPF for ECP5, CST for Gowin, PCF for iCE40."""
    lines = []
    if family == "ecp5":
        lines.append(f'FREQUENCY PORT "clk" {wires.clock_mhz:g} MHZ;')
        for p in wires.pins:
            attributes = "".join(f" {key}={value}" for key, value in p.attributes.items())
            lines.append(f'LOCATE COMP "{p.port}" SITE "{p.site}";')
            lines.append(f'IOBUF PORT "{p.port}"{attributes};')
    elif family == "gowin":
        for p in wires.pins:
            attributes = "".join(f" {key}={value}" for key, value in p.attributes.items())
            lines.append(f'IO_LOC "{p.port}" {p.site};')
            lines.append(f'IO_PORT "{p.port}"{attributes};')
    else:
        for p in wires.pins:
            said = [ATTRIBUTES[key][value] for key, value in p.attributes.items()
                    if key in ATTRIBUTES]  # fmt: skip
            lines.append(" ".join(["set_io", *said, p.port, p.site]))
        lines.append(f"set_frequency clk {wires.clock_mhz:g}")
    return "\n".join(lines) + "\n"
