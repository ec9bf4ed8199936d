"""What synthesis makes of an `Area` on a target: look-up tables, registers, memories, multipliers.

Memories and multipliers follow rules: the design states their form to the tools, by attributes and
by writing products out. Tables and registers are the counted bits, weighed. The weights for ECP5
are rounded from a fit to single blocks of `fcos-nano`; those of other families are the same where
their tables have four inputs too, and a guess for xc7, xcup and cyclonev.
`benchmarks/codegen/resources.py` shows the error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from amaranth.utils import ceil_log2

from intaglio.codegen.area.area import Area, Product, Storage
from intaglio.codegen.area.devices import Device, Family
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.rom import MemoryStyle
from intaglio.hdl.stream import ceil_div

LOGIC = ("adders", "choices", "equals", "rows", "shifts")


@dataclass(frozen=True)
class Rules:
    """How a family holds memories and products.

    blocks     (words, bits a word) that one block RAM can be.
    large      bits from which a memory read a cycle later goes to block RAM.
    lut_ram    (words, bits, look-up tables) of a LUT RAM; None: registers instead.
    tables     bits of a ROM in one look-up table.
    least      bits of the narrowest product that goes to a hard multiplier.
    registers  the part of them that stays flip-flops; the rest become shift registers in LUTs.
    soft       look-up tables for a bit times a bit of a product that is in no hard multiplier.
    styled     whether tools read what a memory is to be made of; else they refuse to be told.
    hard       what they ask of components: `late` where tools use the register behind a block RAM,
               or `chip.netlist.registers` puts it to use.
    """

    blocks: tuple[tuple[int, int], ...]
    large: int
    lut_ram: tuple[int, int, int] | None
    tables: int
    least: int
    registers: float = 1.0
    soft: float = 1.3
    styled: bool = True
    hard: Hard = ANY


BLOCKS_18K = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
BLOCKS_36K = (*((words, 2 * width) for words, width in BLOCKS_18K), (32768, 1))
BLOCKS_20K = ((512, 40), (1024, 20), (2048, 10), (4096, 5), (8192, 2), (16384, 1))
BLOCKS_10K = ((256, 40), (512, 20), (1024, 10), (2048, 5), (4096, 2), (8192, 1))
RULES: dict[Family, Rules] = {
    "ecp5": Rules(BLOCKS_18K, 1025, (16, 4, 6), 16, 9, hard=Hard(True, 18)),
    "gowin": Rules(BLOCKS_18K, 1025, (16, 4, 6), 16, 9, hard=Hard(False, 18)),
    "ice40": Rules(((256, 16), (512, 8), (1024, 4), (2048, 2)), 257, None, 16, 11),
    "xc7": Rules(BLOCKS_36K, 1025, (32, 6, 4), 64, 9, registers=0.75, hard=Hard(True, 25)),
    "xcup": Rules(BLOCKS_36K, 1025, (32, 14, 8), 64, 9, registers=0.75, hard=Hard(True, 27)),
    # No product has 1,000 bits: none goes to a hard multiplier. `soft` is two products as routed.
    "gatemate": Rules(BLOCKS_20K, 257, None, 16, 1000, soft=0.7, styled=False),
    "cyclonev": Rules(BLOCKS_10K, 1025, (32, 1, 1), 64, 9, hard=Hard(True, 18)),
    "generic": Rules(BLOCKS_18K, 1025, (16, 4, 6), 16, 9),
}
# Look-up tables for a bit of each kind of logic, in the order of LOGIC.
FOUR_INPUTS = (1.25, 0.35, 0.6, 1.05, 2.2)
WEIGHTS: dict[Family, tuple[float, ...]] = {
    "ecp5": FOUR_INPUTS,
    "gowin": FOUR_INPUTS,
    "ice40": FOUR_INPUTS,
    "generic": FOUR_INPUTS,
    "cyclonev": FOUR_INPUTS,
    "gatemate": tuple(1.4 * weight for weight in FOUR_INPUTS),  # from one design
    "xc7": (0.8, 0.2, 0.25, 0.5, 0.6),
    "xcup": (0.8, 0.2, 0.25, 0.5, 0.6),
}
# Cells of iCE40 for a table (as estimated: more than there are, but some carries have a cell of
# their own) and for a flip-flop: most registers, those that a memory, a multiplier or another
# register feeds, have one of their own. Rounded from what nextpnr packed of `digits-up5k`.
CELL_OF_LUT, CELL_OF_FF = 1.0, 0.62


@dataclass(frozen=True)
class Need:
    """What a design takes of a target; rams may be halves, cells are those of `Device.cells`."""

    luts: float = 0
    ffs: float = 0
    rams: float = 0
    multipliers: int = 0
    cells: float = 0

    def __add__(self, other: Need) -> Need:
        return Need(self.luts + other.luts, self.ffs + other.ffs, self.rams + other.rams,
                    self.multipliers + other.multipliers, self.cells + other.cells)  # fmt: skip

    def __sub__(self, other: Need) -> Need:
        return Need(self.luts - other.luts, self.ffs - other.ffs, self.rams - other.rams,
                    self.multipliers - other.multipliers, self.cells - other.cells)  # fmt: skip

    def within(self, limits: Need) -> bool:
        """Whether none is beyond its limit."""
        return (self.luts <= limits.luts and self.ffs <= limits.ffs and self.rams <= limits.rams
                and self.multipliers <= limits.multipliers
                and self.cells <= limits.cells)  # fmt: skip


def style_of(memory: Storage, family: Family) -> MemoryStyle:
    """What a memory is to be made of: a RAM that iCE40 has no small one for is a block."""
    if memory.kind == "queue" or memory.style != "auto":
        return memory.style
    rules = RULES[family]
    small = memory.bits < rules.large and (memory.read_only or rules.lut_ram is not None)
    # A ROM of so few words takes a table for each bit of a word, and whole blocks for their width.
    small |= memory.read_only and family == "ice40" and memory.depth <= rules.tables
    return "tables" if small else "block"


def circle(memory: Storage, family: Family) -> Storage:
    """The RAM of a circle of rows: of a power of two words, so that addresses come round by
    themselves, where that takes no block RAM more than the words of the rows do."""
    rows = replace(memory, kind="ram")
    whole = replace(rows, depth=1 << ceil_log2(memory.depth))
    return rows if memory_need(whole, family).rams > memory_need(rows, family).rams else whole


def need(area: Area, chip: Device) -> Need:
    """Everything of an area."""
    found = Need(
        luts=sum(
            w * getattr(area, name) for w, name in zip(WEIGHTS[chip.family], LOGIC, strict=True)
        ),
        ffs=area.registers * RULES[chip.family].registers,
    )
    for memory in area.memories:
        found += memory_need(memory, chip.family)
    for product in area.products:
        found += product_need(product, chip)
    if chip.cells:
        found += Need(cells=CELL_OF_LUT * found.luts + CELL_OF_FF * found.ffs)
    return found


def memory_need(memory: Storage, family: Family) -> Need:
    """A memory in its style."""
    if memory.kind == "circle":
        memory = circle(memory, family)
    rules = RULES[family]
    if style_of(memory, family) == "block":
        return Need(rams=block_rams(memory, family))
    late = memory.width if memory.kind != "queue" else 0
    if memory.read_only:
        luts = memory.width * max(1, memory.depth / rules.tables)
        return Need(luts=luts, ffs=late)
    if rules.lut_ram is None:
        return Need(luts=memory.bits * 1.5, ffs=memory.bits)
    words, width, luts = rules.lut_ram
    deep = ceil_div(memory.depth, words)
    chosen = (deep - 1) * memory.width
    return Need(luts=deep * ceil_div(memory.width, width) * luts + chosen, ffs=late)


def bank_words(memory: Storage, family: Family) -> int:
    """Words of the deepest block RAM that holds a memory's width; of a wider one, of the widest."""
    blocks = RULES[family].blocks
    width = min(memory.width, max(width for _, width in blocks))
    return max(words for words, wide in blocks if wide >= width)


@cache
def block_rams(memory: Storage, family: Family) -> float:
    """Block RAMs of a memory in the best of their shapes.

    Deeper ROMs than a shape are read in parts side by side, one of which is then chosen; so their
    parts share a block's width. A RAM's would all be written, and banks are blocks of their own.
    """
    if memory.kind == "banks":
        words = bank_words(memory, family)
        full, rest = divmod(memory.depth, words)
        depths = [words] * full + [rest] * (rest > 0)
        return sum(block_rams(Storage("rom", depth, memory.width), family) for depth in depths)

    def least(shapes: tuple[tuple[int, int], ...]) -> int:
        parts = [(ceil_div(memory.depth, words), width) for words, width in shapes]
        if memory.kind == "rom":
            return min(ceil_div(n * memory.width, width) for n, width in parts)
        return min(n * ceil_div(memory.width, width) for n, width in parts)

    blocks = least(RULES[family].blocks)
    return min(blocks, least(BLOCKS_18K) / 2) if family in ("xc7", "xcup") else blocks


def product_need(product: Product, chip: Device) -> Need:
    """Hard products, in as many tiles as they are too wide for one; what is too narrow for a
    multiplier is made of tables."""
    tiles = multiplier_tiles(product.a, product.b, chip)
    if not tiles:
        soft = RULES[chip.family].soft
        return Need(luts=product.a * product.b * soft * product.count)
    joined = (product.a + product.b) * (tiles - 1)
    return Need(luts=joined * product.count, multipliers=tiles * product.count)


def multiplier_tiles(a: int, b: int, chip: Device) -> int:
    """Multipliers of an a x b product, the wider operand on the wider side: pairs of parts, of
    which those of one bit, or with too few bits of result, take none."""
    return tiles_of(a, b, chip.dsp, RULES[chip.family].least)


@cache
def tiles_of(a: int, b: int, dsp: tuple[int, int], least: int) -> int:
    """The same, of parts of `dsp` bits, with at least so many bits of result."""
    pairs = [(x, y) for x in parts(max(a, b), max(dsp)) for y in parts(min(a, b), min(dsp))]
    return sum(min(pair) >= 2 and sum(pair) >= least for pair in pairs)


def parts(bits: int, wide: int) -> list[int]:
    """An operand cut into parts that a multiplier takes."""
    return [wide] * (bits // wide) + ([bits % wide] if bits % wide else [])
