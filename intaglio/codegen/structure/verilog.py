"""Amaranth to Verilog: yosys writes it, here every name becomes a plain identifier.

Amaranth makes millions of objects that all stay until the text is there: the search for garbage,
which looks at all of them again and again, would take half the time. The modules go to one yosys:
in which order it writes the lines of one depends on the names in those before.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from textwrap import wrap

from amaranth.back import verilog
from amaranth.hdl import Elaboratable, Signal

from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.comments import about
from intaglio.codegen.structure.graph import unique
from intaglio.codegen.structure.rtlil import ABOUT, design_text
from intaglio.errors import ToolError
from intaglio.system.copies import meanwhile
from intaglio.system.processes import complaint, for_libraries

LONG = re.compile(r'(?<!["\w/])[A-Za-z_]\w{64,}')  # names, but not of files
WIDE = 97  # characters of a line of comment
# yosys has a register, never written, in every block of combinational statements, for simulators
# that would not run one without inputs.
START = re.compile(r"^\$auto\$verilog_backend\S*")


@contextmanager
def begun(top: Top, name: str) -> Iterator[Callable[[], str]]:
    """The design as Verilog-2005 whose every name is a plain identifier, begun by a copy of this
    process, which keeps Amaranth's objects to itself; what is yielded waits for it."""
    with meanwhile(partial(top_rtlil, name=name), top) as text:
        yield lambda: from_rtlil(text())


def to_verilog(top: Top, name: str) -> str:
    """The same, by this process."""
    return from_rtlil(top_rtlil(top, name))


def to_verilog_block(design: Elaboratable, name: str, ports: Sequence[Signal] | None = None) -> str:
    """Anything by itself; ports: None, those of the component's signature."""
    with uncollected():
        return from_rtlil(design_text(design, name, ports))


def top_rtlil(top: Top, name: str) -> str:
    """The design's text for yosys."""
    with uncollected():
        return design_text(top, name, list(top.pins.values()), about(top))


def from_rtlil(text: str) -> str:
    """Verilog, which yosys writes; it starts in the environment of every program."""
    try:
        with for_libraries():
            return commented(started(plain_names(verilog._convert_rtlil_text(text))))
    except verilog.YosysError as error:
        raise ToolError(
            f"yosys must write the Verilog, but stopped: {complaint(str(error))}."
        ) from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for garbage in circles, which Python makes up for later."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def started(text: str) -> str:
    """Every `always @*` runs once at time 0, also where the file is taken for SystemVerilog: there
    the initial value of a declaration, by which yosys begins them, is no event."""
    return re.sub(
        r"^( *)reg (at_start\w*) *= 0;", r"\1reg \2;\n\1initial \2 <= 0;", text, flags=re.M
    )


def commented(text: str) -> str:
    """What modules are about as comments before them."""

    def comment(match: re.Match[str]) -> str:
        return "".join(f"// {line}\n" for line in wrap(match[1].replace('\\"', '"'), WIDE))

    return re.sub(rf'^\(\* {ABOUT} = "(.*)" \*\)\n', comment, text, flags=re.MULTILINE)


def plain_names(text: str) -> str:
    """Escaped identifiers (`\\acc[3] `) become plain ones (`acc_3`), each its own, and long ones
    short.

    yosys has miscompiled names with brackets, and simulators read them in different ways.
    """
    taken = set(re.findall(r"(?<![\\\w$])[A-Za-z_]\w*", text))
    renamed: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        name = match[1]
        if name not in renamed:
            short = re.sub(r"\W+", "_", START.sub("at_start", name)).strip("_")
            keyword = short == name  # nothing else would have made it an escaped name
            renamed[name] = unique(
                f"n_{short}" if keyword or not short[:1].isalpha() else short, taken
            )
        return renamed[name] + " "

    return LONG.sub(shorter, re.sub(r"\\(\S+)\s", plain, text))


def shorter(match: re.Match[str]) -> str:
    """Of a long name 64 characters: both ends, and digits of the whole between them."""
    name = match[0]
    return f"{name[:28]}_{sha256(name.encode()).hexdigest()[:6]}_{name[-28:]}"
