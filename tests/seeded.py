"""Faults put into Verilog and ROMs of a build of `small()`, each of which shows at a port.

Modules and registers are found by the names that the design's blocks give them; what yosys calls
the rest is looked up. A fault whose place is not there raises AssertionError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from networks import pyramid

from intaglio.codegen.bundle import Bundle
from intaglio.program import Program

TOP = "rtl/top.v"
Files = dict[str, str]
Fault = Callable[[Files], None]


def small() -> Program:
    """Six outputs of three levels, a skip, a shared head."""
    return pyramid(size=(8, 12), widths=(2, 4, 3, 3))


def module(files: Mapping[str, str], name: str) -> re.Match[str]:
    """A module of the design, whole."""
    found = re.search(rf"^module {name}\b.*?^endmodule$", files[TOP], re.S | re.M)
    assert found is not None, name
    return found


def put(files: Files, name: str, body: str) -> None:
    """Another body for a module."""
    found = module(files, name)
    assert body != found[0], name
    files[TOP] = files[TOP][: found.start()] + body + files[TOP][found.end() :]


def edit(files: Files, name: str, pattern: str, into: str, *, every: bool = False) -> None:
    """The first place in a module that a pattern matches, or every one, replaced."""
    body, count = re.subn(pattern, into, module(files, name)[0], count=0 if every else 1)
    assert count, (name, pattern)
    put(files, name, body)


def less(files: Files, name: str, pattern: str) -> None:
    """The number behind a pattern in a module, made one less."""
    body = module(files, name)[0]
    found = re.search(rf"(?:{pattern})(\d+)'h([0-9a-f]+)", body)
    assert found is not None, (name, pattern)
    number = f"{found[1]}'h{int(found[2], 16) - 1:x}"
    put(files, name, body[: found.start(1)] + number + body[found.end(2) :])


def reset_value(files: Files, name: str, register: str, value: str) -> None:
    """Another value that a register gets by a reset; its initial one stays."""
    body = module(files, name)[0]
    found = re.search(rf"^\s*{register}\s*<= (\w+)\s*;", body, re.M)
    assert found is not None, register
    pattern = rf"(if \(rst\)(?: begin)?\s+(?:{found[1]}|{register})\s*<?= )\d+'h[0-9a-f]+"
    edit(files, name, pattern, rf"\g<1>{value}")


def at_port(files: Files, pin: str, expression: str, more: str = "") -> None:
    """What drives a pin of the top, `seeded`, goes through an expression, with more Verilog."""
    body = module(files, "top")[0]
    width = re.search(rf"output (\[\d+:0\])? *{pin};", body)
    assert width is not None, pin
    drivers = rf"(\.\w+ ?\({pin}\s*\)|assign {pin} = )"
    inside = re.sub(drivers, lambda found: found[0].replace(pin, "seeded"), body)
    assert inside != body, pin
    added = f"  wire {width[1] or ''} seeded;\n{more}  assign {pin} = {expression};\nendmodule"
    put(files, "top", inside.removesuffix("endmodule") + added)


def rom(files: Files, name: str, change: Callable[[list[int]], list[int]]) -> None:
    """Other words in a ROM."""
    path = f"rom/{name}.hex"
    lines = files[path].split()
    words = change([int(line, 16) for line in lines])
    changed = "".join(f"{word:0{len(lines[0])}x}\n" for word in words)
    assert changed.split() != lines, name
    assert len(changed) == len(files[path]), name
    files[path] = changed


def no_rounding(files: Files) -> None:
    """The half that rounds is gone from the biases of a layer."""
    body = module(files, "top_c5_conv_drain_requantiser")[0]
    found = re.search(r"data\[(\d+):0\]", body)  # the multiplier, below the bias
    assert found is not None
    half = 1 << 15 << int(found[1]) + 1
    rom(files, "c5_conv_tables", lambda words: [word - half for word in words])


def other_level(words: list[int]) -> list[int]:
    """The tables of levels 0 and 1 exchanged."""
    third = len(words) // 3
    return words[third : 2 * third] + words[:third] + words[2 * third :]


def swapped(words: list[int]) -> list[int]:
    """Two words exchanged."""
    return [words[0], words[3], words[2], words[1], *words[4:]]


def one_reader(files: Files) -> None:
    """A fork goes on when the first reader has the beat."""
    body = module(files, "top_block_add_fork")[0]
    first = re.search(r"\bo_+0_+ready\b", body)
    assert first is not None
    edit(files, "top_block_add_fork", r"assign (i_+ready) = [^;]*;", rf"assign \1 = {first[0]};")


LATE = """\
  reg [7:0] seeded_frame = 0, seeded_beat = 0;
  always @(posedge clk)
    if (rst) seeded_frame <= 0;
    else if (m_axis_out3_tvalid & m_axis_out3_tready) begin
      seeded_beat <= seeded ? 0 : seeded_beat + 1;
      seeded_frame <= seeded_frame + seeded;
    end
"""
WINDOW, QUEUE, SINK = "top_tower_0_conv_window", "top_block_add_0_1_fifo", "top_out3_sink"
REQUANT, LAST = "top_tower_0_conv_drain_requantiser", "m_axis_out3"
FAULTS: dict[str, Fault] = {
    "03 no rounding in a layer": no_rounding,
    "04 tables of another level": lambda files: rom(files, "tower_0_conv_tables", other_level),
    "05 two words of weights swapped": lambda files: rom(files, "stem_conv_weights", swapped),
    "06 a queue a place shorter": lambda files: less(files, QUEUE, r"i_+ready = level != "),
    "07 the right border one too far": partial(
        edit, name=WINDOW, pattern=r"\$signed\(x_tap\) < ", into="$signed(x_tap) <= "
    ),
    "08 no sign extension in a sum": partial(
        edit, name="top_tower_0_conv", pattern=r"\$signed\((\w+)\s*\) \+ \$signed\((tree\w+)\s*\)",
        into=r"\1 + \2",
    ),
    "09b an output queue that ignores ready": partial(
        edit, name="top_boxes_0_demux_fifo", pattern=r"\b(o_+valid) & o_+ready\b", into=r"\1",
        every=True,
    ),
    "10 places that are not reserved": partial(
        edit, name="top_logits_0_conv_drain_outlet", pattern=r"\bfree - \w+", into="free"
    ),
    "11 a queue that ignores being full": partial(
        edit, name=QUEUE, pattern=r"(assign i_+ready = )level != [^;]*;", into=r"\g<1>1'h1;"
    ),
    "12 tlast a beat early": lambda files: less(files, SINK, r"_tlast = beat == "),
    "13 a reset that resets nothing": partial(
        edit, name=WINDOW, pattern=r"if \(rst\)", into="if (1'h0)", every=True
    ),
    "14b a wrong reset value": partial(
        reset_value, name=WINDOW, register="y_tap", value="4'h0"
    ),
    "14c a wrong reset value of an address": partial(
        reset_value, name=REQUANT, register="address", value="4'h1"
    ),
    "15 a payload that changes while it waits": partial(
        at_port, pin=f"{LAST}_tdata", expression=f"{LAST}_tready ? seeded : ~seeded"
    ),
    "16 valid waits for ready": partial(
        at_port, pin=f"{LAST}_tvalid", expression=f"seeded & {LAST}_tready"
    ),
    "17 valid in reset": partial(at_port, pin=f"{LAST}_tvalid", expression="seeded | rst"),
    "18b a clamp to another code": partial(
        edit, name=REQUANT, pattern=r"(\? \d+'h0*)f\b", into=r"\g<1>e"
    ),
    "19 a fork that forgets a reader": one_reader,
    "20 wrong from the seventh frame on": partial(
        at_port, pin=f"{LAST}_tlast", more=LATE,
        expression="seeded ^ (seeded_frame > 5 & seeded_beat == 3)",
    ),
    "21b a column index a pixel early": partial(
        edit, name="top_p3_up_upsample", pattern=r"assign x_grows = ([^;]*);",
        into=r"assign x_grows = (\1) ^ (x_out == 0);",
    ),
    "22 two lanes of weights swapped": partial(
        edit, name="top_tower_0_conv", pattern=r"\bweight_1\[3:0\]", into="weight_1[7:4]"
    ),
    "23 a step of the address that is left out": partial(
        edit, name=WINDOW, pattern=r"\bx_outermost_1 <= \w+\s*;", into="x_outermost_1 <= 1'b0;"
    ),
}  # fmt: skip
FAST = ("05", "06", "15")
# The block whose output is wrong first, where a wrong value leaves a block.
BLOCKS = {
    "03": "c5_conv", "04": "tower_0_conv", "05": "stem_conv", "07": "tower_0_conv",
    "08": "tower_0_conv", "14b": "tower_0_conv", "14c": "tower_0_conv", "18b": "tower_0_conv",
    "21b": "p3_up_upsample", "22": "tower_0_conv", "23": "tower_0_conv",
}  # fmt: skip
# What is said of a queue that is not as it was built.
QUEUES = {
    "06": "Queue block_add_0_1_fifo held at most 18 beats in run 5, predicted 19.",
    "11": "Queue block_add_0_1_fifo overflows its places (19): run ",
}


def write(bundle: Bundle, fault: str, folder: Path) -> None:
    """A build with a fault; "" for none."""
    bundle.write(folder)
    if fault:
        files = {path: data.decode() for path, data in bundle.files.items()
                 if path.startswith(("rtl/", "rom/"))}  # fmt: skip
        FAULTS[fault](files)
        for path, text in files.items():
            (folder / path).write_text(text)
