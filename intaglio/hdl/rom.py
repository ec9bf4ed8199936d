"""Read-only memory: weights, requantisation tables, lookup tables."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.errors import BuildError

MemoryStyle = Literal["auto", "block", "tables"]  # as the tool likes it, block RAM, look-up tables
STYLES: tuple[MemoryStyle, ...] = ("auto", "block", "tables")  # by the number `intaglio_rom` takes


def rom_attributes(style: MemoryStyle) -> dict[str, str]:
    """What tools want to read beside a memory that is never written. Of two, yosys reads the
    first; it has no LUT RAM without a write port."""
    if style == "block":
        return {"ram_style": "block", "rom_style": "block"}
    return {"ram_style": "registers", "rom_style": "distributed"} if style == "tables" else {}


def ram_attributes(style: MemoryStyle) -> dict[str, str | int]:
    """The same of a RAM that nobody reads where it is being written, and whose tool need not care
    what such a read would give."""
    named: dict[MemoryStyle, str] = {"block": "block", "tables": "distributed"}
    found: dict[str, str | int] = {"no_rw_check": 1}
    return found | ({"ram_style": named[style]} if style in named else {})


class Rom(wiring.Component):
    """`data` is the word at `addr` one cycle later; it is read in every cycle with `en`.

    words  contents, non-negative, below 2^width.
    file   None: contents are part of the design (an Amaranth memory).
           A file name: an instance of the Verilog module `intaglio_rom`, parameters WIDTH, DEPTH
           and FILE, ports `clk`, `en`, `addr`, `data`, which loads the file with $readmemh; the
           text is `pack.hex_text(words, width)`. A ROM of one word still has a 1-bit address.
    style  what it is to be made of; may be set until it is elaborated.
    """

    def __init__(self, *, words: Sequence[int], width: int, file: str | None = None) -> None:
        if not words or min(words) < 0 or max(words) >> width:
            raise BuildError(f"A ROM must hold at least one word, all of {width} bits.")
        self.words = tuple(words)
        self.width = width
        self.file = file
        self.style: MemoryStyle = "auto"
        self.address_bits = max(1, ceil_log2(len(words)))
        super().__init__(
            {"addr": In(self.address_bits), "en": In(1, init=1), "data": Out(width)},
        )

    @property
    def depth(self) -> int:
        """Number of words."""
        return len(self.words)

    @property
    def bits(self) -> int:
        """Size in bits."""
        return self.depth * self.width

    def model(self, addresses: Sequence[int]) -> list[int]:
        """The words read."""
        return [self.words[address] for address in addresses]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        if self.file is not None:
            m.submodules.rom = Instance(
                "intaglio_rom",
                p_WIDTH=self.width,
                p_DEPTH=self.depth,
                p_FILE=self.file,
                p_STYLE=STYLES.index(self.style),
                i_clk=ClockSignal(),
                i_en=self.en,
                i_addr=self.addr,
                o_data=self.data,
            )
            return m
        m.submodules.rom = rom = Memory(
            shape=self.width,
            depth=self.depth,
            init=self.words,
            attrs=rom_attributes(self.style),
        )
        port = rom.read_port()
        m.d.comb += [port.addr.eq(self.addr), port.en.eq(self.en), self.data.eq(port.data)]
        return m
