"""The data sheet of a build: what somebody must know who puts it into a larger design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intaglio.codegen.folder.alone import ICARUS, VERILATOR
from intaglio.codegen.structure.ports import FRAME_ERROR, Port


def datasheet(facts: Mapping[str, Any], wrapper: str, sources: Sequence[str]) -> str:
    """Markdown, of what the manifest has."""
    source = Port.from_json(facts["input"])
    sinks = [Port.from_json(entry) for entry in facts["outputs"]]
    parts = (
        figures(facts),
        ports(facts["name"], wrapper, source, sinks),
        streams(source, sinks, facts["maps"]),
        packets(source),
        clocking(wrapper),
        files(facts["name"], wrapper, sources),
        alone(),
    )
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def figures(facts: Mapping[str, Any]) -> str:
    """Name, rate and size."""
    used, clock = facts["resources"], facts["clock_mhz"]
    latency = facts["latency_cycles"]
    first = min(facts["first_outputs"].values())
    rows = [
        ("made for", f"{facts['target']}, {clock:g} MHz"),
        ("cycles a frame, one after another", f"{facts['cycles_per_frame']:,}"),
        ("frames/s at that clock", f"{facts['fps']:,.1f}"),
        ("from reset to the first frame's first output beat", f"{first:,} cycles"),
        ("to its last", f"{latency:,} cycles, {latency / clock / 1000:,.3f} ms"),
        ("look-up tables, estimated", f"{used['luts']:,}"),
        ("flip-flops, estimated", f"{used['ffs']:,}"),
        ("block RAMs, estimated", f"{used['rams']:g}"),
        ("hard multipliers, estimated", used["multipliers"]),
        ("Program", f"SHA-256 {facts['program']}"),
    ]
    text = """
No cycle depends on data. The counts hold where the input is offered without pauses from the first
cycle after reset on and no output waits. Resources are estimates, not results of a router.
"""
    return f"# {facts['name']}\n\n{table(('', ''), rows)}{text}"


def ports(top: str, wrapper: str, source: Port, sinks: Sequence[Port]) -> str:
    """The ports of the top and of the wrapper."""
    rows: list[tuple[object, ...]] = [
        ("`clk`", "`aclk`", "in", 1, "everything happens at its rising edge"),
        ("`rst`", "`aresetn`", "in", 1, "reset: high, synchronous; low, synchronised"),
    ]
    for port in (source, *sinks):
        forth, back = ("in", "out") if port is source else ("out", "in")
        width = port.data_width
        what = {
            "tdata": (forth, width, f"{width // 8} whole bytes"),
            "tkeep": (forth, width // 8, "all ones"),
            "tvalid": (forth, 1, "a beat is offered; it holds until taken"),
            "tready": (back, 1, "a beat is taken"),
            "tlast": (forth, 1, "the last beat of a frame"),
        }
        for wire, (way, bits, text) in what.items():
            name, own = f"`{port.name}_{wire}`", f"`{port.name}_{wire}`"
            if wire == "tkeep":
                if port is source:
                    continue
                own = ""
            rows.append((own, name, way, bits, text))
    rows.append((f"`{FRAME_ERROR}`", f"`{FRAME_ERROR}`", "out", 1,
                 "a packet of the input was no whole frame; 1 until reset"))  # fmt: skip
    head = (f"`{top}`", f"`{wrapper}`", "", "bits", "")
    return f"## Ports\n\n{table(head, rows)}"


def streams(source: Port, sinks: Sequence[Port], maps: Sequence[Mapping[str, Any]]) -> str:
    """The order of beats, and what codes stand for."""
    rows = [
        (f"`{p.name}`", p.tensor, " x ".join(map(str, p.shape)), p.type, p.lanes,
         p.beats_per_pixel, p.beats)
        for p in (source, *sinks)
    ]  # fmt: skip
    head = ("stream", "tensor", "C x H x W", "type", "lanes", "beats a pixel", "beats a frame")
    meaning = [(m["name"], f"{m['scale']:g}", ", ".join(map(str, m["zero_point"]))) for m in maps]
    return f"""\
## Order of beats

{table(head, rows)}
Pixels come in raster order: row 0 from left to right, then row 1. Of a pixel, beat b has in lane
l channel b * lanes + l. A lane is as many bits as the type has (`u8`: unsigned, 8 bits; `i16`:
two's complement, 16 bits), lane 0 in the low bits of `tdata`. Lanes without a channel, and bits
above the last lane, mean nothing at the input and are not to be read at an output. In memory,
with the first byte in the low bits, a stream of whole-byte lanes is an array (H, W, beats a pixel
* lanes).

The real value of a code is scale * (code - zero point):

{table(("output", "scale", "zero point"), meaning)}"""


def packets(source: Port) -> str:
    """What tlast of the input does."""
    return f"""\
## Packets

Set `{source.name}_tlast` on the last of the {source.beats:,} beats of every frame, or tie it low:
then beats are counted, and one that is lost moves all later frames. With it, a packet that is too
short is filled up with zeros, the rest of one that is too long is dropped, `{FRAME_ERROR}` is
set, and the next frame is right.
"""


def clocking(wrapper: str) -> str:
    """Clock, reset and constraints."""
    return f"""\
## Clock and reset

One clock. No false path, no multicycle path, no latch and no crossing in the design; `{wrapper}`
has one asynchronous path, from `aresetn` to the two registers `resetting`. Ports are not
registered: a ready may follow another in the same cycle. Constrain the clock alone
(`constraints/`), under the name it has in your design.

A cycle of `rst` is enough. Every register that decides anything is reset by it. Registers of data
that go with a strobe have no reset; they and the memories of lines and queues hold anything until
they are written, and nothing reads them before. Registers have initial values in the Verilog as
well, so that the design starts without a reset where a device loads them; where none are loaded
(an ASIC), hold `rst` for a cycle before use.
"""


def files(top: str, wrapper: str, sources: Sequence[str]) -> str:
    """What to compile, and where ROMs are found."""
    listed = ", ".join(f"`{source}`" for source in sources)
    return f"""\
## Files

{listed}; `{top}` is the design, `{wrapper}` the same with `aresetn`. `{top}.f` and `{top}.core`
list them.

`intaglio_rom` reads `rom/*.hex` by `$readmemh`, relative to the folder in which a tool runs.
Where that is not the folder of the build, define `INTAGLIO_ROM_PATH` as that folder, with a slash
at its end:

    iverilog '-DINTAGLIO_ROM_PATH="/path/to/build/"' ...
    verilator '-DINTAGLIO_ROM_PATH="/path/to/build/"' ...
    yosys -p 'read_verilog -defer -DINTAGLIO_ROM_PATH="/path/to/build/" ...'
    set_property verilog_define {{INTAGLIO_ROM_PATH="/path/to/build/"}} [current_fileset]   # Vivado
"""


def alone() -> str:
    """How the bench runs without Python."""
    return f"""\
## Bench

`bench/alone.sv` plays the frames of `bench/stimulus.hex` with pauses of every kind and a reset in
mid-frame, then without pauses, and judges beats, cycles and protocol. Its last line is PASS or
FAIL, and the exit status is 0 only with PASS. After `mkdir -p sim`, in Icarus and in Verilator:

    {ICARUS}
    {VERILATOR}
"""
