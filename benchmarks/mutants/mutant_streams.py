"""Mutants of a stream: a module around a module, which spoils the handshake or the time of one of
its streams. What is driven into the module inside is called m_, what comes out of it s_."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mutant import Kind, Mutant, Sources, drawn

HEADER = re.compile(r"^module (\w+) ?\((.*?)\);", re.S)
LATEST = 24  # number of a beat: the shortest stream has more in its eight frames
# Beats taken from the module inside, or given to it, and cycles that a beat has waited.
COUNTED = """\
  reg [15:0] beats = 0;
  reg [7:0] waited = 0;
  reg again = 0;
  always @(posedge clk) begin
    beats <= rst ? 0 : beats + (m_valid & m_ready);
    waited <= rst | ~s_valid | s_ready ? 0 : waited + (waited != 255);
    again <= rst ? 0 : AGAIN;
  end
"""
# A register of two places: a cycle later, as many beats.
LATER = """\
  reg [WIDTH - 1:0] kept [0:SIZE - 1];
  reg [7:0] level = 0, put = 0, get = 0;
  assign m_ready = level != SIZE;
  assign s_valid = level != 0;
  assign s_payload = kept[get];
  always @(posedge clk)
    if (rst) begin
      level <= 0;
      put <= 0;
      get <= 0;
    end else begin
      level <= level + (m_valid & m_ready) - (s_valid & s_ready);
      if (m_valid & m_ready) begin
        kept[put] <= m_payload;
        put <= put == SIZE - 1 ? 0 : put + 1;
      end
      if (s_valid & s_ready) get <= get == SIZE - 1 ? 0 : get + 1;
    end
"""
# Behind every EVERY-th beat a pause of HOLD cycles.
PAUSES = """\
  reg [7:0] hold = 0;
  reg [15:0] beat = 0;
  wire taken = s_valid & s_ready;
  assign m_ready = s_ready & hold == 0;
  assign s_valid = m_valid & hold == 0;
  assign s_payload = m_payload;
  always @(posedge clk)
    if (rst) begin
      hold <= 0;
      beat <= 0;
    end else begin
      hold <= taken & beat == EVERY - 1 ? HOLD : hold != 0 ? hold - 1 : 0;
      if (taken) beat <= beat == EVERY - 1 ? 0 : beat + 1;
    end
"""


@dataclass(frozen=True)
class End:
    """A stream of a module: what goes before _valid, _ready and _payload, and its payload bits."""

    module: str
    stream: str
    way: Literal["input", "output"]
    width: int


def ends(sources: Sources) -> list[End]:
    """Every stream of every module."""
    found = []
    for module in sources.inside():
        ports = port_list(sources.modules[module])
        for name, (way, _) in ports.items():
            stream = name.removesuffix("_valid")
            payload = f"{stream}_payload"
            back = ports.get(f"{stream}_ready", (way, 1))[0]
            if stream != name and back != way and payload in ports:
                found.append(End(module, stream, way, ports[payload][1]))
    return found


def port_list(body: str) -> dict[str, tuple[Literal["input", "output"], int]]:
    """Of a module: name to direction and width."""
    found: dict[str, tuple[Literal["input", "output"], int]] = {}
    for way, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", body, re.M):
        found[name] = way, int(high or 0) + 1
    return found


def around(sources: Sources, end: End, logic: str) -> str:
    """A module with the same ports and the old one in it, and between them a stream's logic, which
    drives m_ready, s_valid and s_payload."""
    body = sources.modules[end.module]
    inner, ports = f"{end.module}_inner", port_list(body)
    header = HEADER.match(body)
    assert header is not None
    declared = "".join(
        f"  {way} {f'[{width - 1}:0] ' if width > 1 else ''}{name};\n"
        for name, (way, width) in ports.items()
    )
    near, far = ("s", "m") if end.way == "input" else ("m", "s")
    wires = {f"{end.stream}_{wire}": wire for wire in ("valid", "ready", "payload")}
    joined = ",\n".join(
        f"    .{name}({f'{near}_{wires[name]}' if name in wires else name})" for name in ports
    )
    v, r, p = (f"{end.stream}_{wire}" for wire in ("valid", "ready", "payload"))
    if end.way == "input":
        pairs = (f"{far}_valid", v), (f"{far}_payload", p), (r, f"{far}_ready")
    else:
        pairs = (v, f"{far}_valid"), (p, f"{far}_payload"), (f"{far}_ready", r)
    outer = "".join(f"  assign {name} = {value};\n" for name, value in pairs)
    bus = f"[{end.width - 1}:0] "
    return (
        body.replace(f"module {end.module}", f"module {inner}", 1)
        + f"\nmodule {end.module} ({header[2]});\n{declared}"
        + "  wire m_valid, m_ready, s_valid, s_ready;\n"
        + f"  wire {bus}m_payload, s_payload;\n{outer}"
        + f"  {inner} inner (\n{joined}\n  );\n{logic.replace('WIDTH', str(end.width))}endmodule"
    )


# What a stream does: words, m_ready, s_valid, s_payload, and what `again` becomes; N is a beat.
SPOILT: tuple[tuple[str, str, str, str, str], ...] = (
    ("its payload changes while it waits", "s_ready", "m_valid",
     "waited != 0 & ~s_ready ? ~m_payload : m_payload", "0"),
    ("its payload changes in the third cycle that it waits", "s_ready", "m_valid",
     "waited == 2 ? m_payload ^ 1 : m_payload", "0"),
    ("valid waits for ready", "s_ready", "m_valid & s_ready", "m_payload", "0"),
    ("valid falls while it waits", "s_ready & waited[0] == 0", "m_valid & waited[0] == 0",
     "m_payload", "0"),
    ("beat N of a run is lost", "s_ready | beats == N", "m_valid & beats != N", "m_payload", "0"),
    ("beat N of a run comes twice", "s_ready & (beats != N | again)", "m_valid", "m_payload",
     "again | beats == N & s_valid & s_ready"),
    ("it stops at beat N of a run", "s_ready & beats < N", "m_valid & beats < N", "m_payload",
     "0"),
    ("beat N of a run is wrong", "s_ready", "m_valid", "beats == N ? ~m_payload : m_payload", "0"),
    ("ready is not looked at", "1'b1", "m_valid", "m_payload", "0"),
    ("ready is there for a beat that is not taken at beat N of a run",
     "s_ready", "m_valid & ~again", "m_payload",
     "beats == N & m_valid & s_ready & ~again"),
)  # fmt: skip


def protocol(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """Handshakes that are broken, beats lost or doubled; at the outputs also valid in reset and
    tlast."""
    draw, seen, found = drawn(sources, "protocol", seed), set[tuple[str, ...]](), ends(sources)
    while len(seen) < count:
        if draw.randrange(8) == 0:
            mutant = at_output(sources, draw.choice([m for m in sources.inside()
                               if m.endswith("_sink")]), draw.randrange(4))  # fmt: skip
            if (mutant.module, mutant.what) not in seen:
                seen.add((mutant.module, mutant.what))
                yield mutant
            continue
        end, spoilt = draw.choice(found), draw.choice(SPOILT)
        beat = str(draw.choice((0, 1, draw.randrange(LATEST), draw.randrange(LATEST))))
        words, ready, valid, payload, again = (re.sub(r"\bN\b", beat, part) for part in spoilt)
        key = (end.module, end.stream, words)
        if key in seen:
            continue
        seen.add(key)
        logic = (
            f"  assign m_ready = {ready};\n  assign s_valid = {valid};\n"
            f"  assign s_payload = {payload};\n{COUNTED.replace('AGAIN', again)}"
        )
        yield mutant_of(sources, "protocol", end, words, logic)


def at_output(sources: Sources, module: str, which: int) -> Mutant:
    """A fault of the design's port: what drives it, and what it is instead."""
    port, expression, what = (
        ("o_tvalid", "old | rst", "valid in reset"),
        ("o_tlast", "old ^ rst_seen", "tlast wrong in the first frame after reset"),
        ("o_tlast", "1'b0", "tlast never"),
        ("o_tvalid", "old & i_ready", "valid waits for ready"),
    )[which]
    body = sources.modules[module]
    new = body.replace(f"output {port};", f"output {port};\n  wire old;", 1)
    new = re.sub(rf"assign {port} = ", "assign old = ", new)
    if port == "o_tvalid" and new.count("assign old") == 0:
        raise AssertionError(module)
    more = (
        "  reg rst_seen = 0;\n  always @(posedge clk)\n"
        "    if (rst) rst_seen <= 1; else if (i_valid & i_ready & old) rst_seen <= 0;\n"
    )
    text = new.removesuffix("endmodule") + f"{more}  assign {port} = {expression};\nendmodule"
    return sources.of_module("protocol", module, what, text)


def times(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """Streams that are later, or slower."""
    draw, seen, found = drawn(sources, "timing", seed), set[tuple[str, ...]](), ends(sources)
    while len(seen) < count:
        end, later = draw.choice(found), draw.randrange(2)
        if later:
            size = draw.choice((1, 2, 2))
            what = "a cycle later" if size == 2 else "a cycle later, a beat in two cycles"
            logic = LATER.replace("SIZE", str(size))
        else:
            every, hold = draw.choice((1, 2, 3, 5)), draw.choice((8, 16, 32, 64))
            what = f"{hold} cycles of pause behind {every} beats"
            logic = PAUSES.replace("EVERY", str(every)).replace("HOLD", str(hold))
        key = (end.module, end.stream, what)
        if key not in seen:
            seen.add(key)
            yield mutant_of(sources, "timing", end, what, logic)


def mutant_of(sources: Sources, kind: Kind, end: End, what: str, logic: str) -> Mutant:
    """A mutant of a stream."""
    text = around(sources, end, logic)
    return sources.of_module(kind, end.module, f"{end.stream}: {what}", text)
