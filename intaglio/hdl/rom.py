"""Read-only memory: weights, requantisation tables, lookup tables."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import Array, ClockSignal, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intaglio.errors import BuildError
from intaglio.hdl.stream import pipe

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
    """`data` is the word at `addr` one cycle later; it is read in every cycle with `en`. If `late`
    it comes two cycles later, and is read in every cycle.

    words  contents, non-negative, below 2^width.
    file   None: contents are part of the design (an Amaranth memory).
           A file name: an instance of the Verilog module `intaglio_rom`, parameters WIDTH, DEPTH
           and FILE, ports `clk`, `en`, `addr`, `data`, which loads the file with $readmemh; the
           text is `pack.hex_text(words, width)`. A ROM of one word still has a 1-bit address.
    style  what it is to be made of; may be set until it is elaborated.
    bank   of a late one with more words: they are cut into banks of so many, a power of two, each
           a memory with a register of its own and a file of its own, and then one is chosen. 0:
           one memory, whatever its size. May be set until it is elaborated.
    """

    def __init__(
        self, *, words: Sequence[int], width: int, file: str | None = None, late: bool = False
    ) -> None:
        if not words or min(words) < 0 or max(words) >> width:
            raise BuildError(f"A ROM must hold at least one word, all of {width} bits.")
        self.words = tuple(words)
        self.width = width
        self.file = file
        self.late = late
        self.bank = 0
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

    @property
    def banks(self) -> list[tuple[str | None, tuple[int, ...]]]:
        """File and words of every memory that it is made of."""
        if not self.bank or self.depth <= self.bank:
            return [(self.file, self.words)]
        starts = range(0, self.depth, self.bank)
        stem, dot, end = (self.file or "").rpartition(".")
        return [
            (f"{stem}_{k}{dot}{end}" if self.file else None, self.words[at : at + self.bank])
            for k, at in enumerate(starts)
        ]

    def model(self, addresses: Sequence[int]) -> list[int]:
        """The words read."""
        return [self.words[address] for address in addresses]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        read = [self._memory(m, k, *bank) for k, bank in enumerate(self.banks)]
        if self.late:
            read = [pipe(m, word, 1, f"bank_{k}" if k else "stored") for k, word in enumerate(read)]
        word = read[0]
        if len(read) > 1:
            chosen = pipe(m, self.addr[ceil_log2(self.bank) :], 2, "chosen")
            word = Array(read)[chosen]
        m.d.comb += self.data.eq(word)
        return m

    def _memory(self, m: Module, k: int, file: str | None, words: Sequence[int]) -> Value:
        """What one memory of so many words reads, a cycle later."""
        name = f"rom_{k}" if k else "rom"
        addr = self.addr[: max(1, ceil_log2(len(words)))]
        if file is not None:
            data = Signal(self.width, name=f"{name}_data")
            m.submodules[name] = Instance(
                "intaglio_rom",
                p_WIDTH=self.width,
                p_DEPTH=len(words),
                p_FILE=file,
                p_STYLE=STYLES.index(self.style),
                i_clk=ClockSignal(),
                i_en=self.en,
                i_addr=addr,
                o_data=data,
            )
            return data
        m.submodules[name] = rom = Memory(
            shape=self.width,
            depth=len(words),
            init=words,
            attrs=rom_attributes(self.style),
        )
        port = rom.read_port()
        m.d.comb += [port.addr.eq(addr), port.en.eq(self.en)]
        return port.data
