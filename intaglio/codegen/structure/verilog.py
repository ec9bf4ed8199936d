"""Amaranth to Verilog: yosys writes it, here every name becomes a plain identifier.

Amaranth makes millions of objects that all stay until the text is there: the search for garbage,
which looks at all of them again and again, would take half the time. The modules go to one yosys:
in which order it writes the lines of one depends on the names in those before.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Elaboratable

from intaglio.codegen.structure.assemble import Component, Top
from intaglio.codegen.structure.graph import unique
from intaglio.codegen.structure.rtlil import design_text
from intaglio.errors import ToolError
from intaglio.system.copies import meanwhile
from intaglio.system.processes import complaint, for_libraries


@contextmanager
def begun(top: Top, name: str) -> Iterator[Callable[[], str]]:
    """The design as Verilog-2005 whose every name is a plain identifier, begun by a copy of this
    process, which keeps Amaranth's objects to itself; what is yielded waits for it."""
    with meanwhile(partial(as_rtlil, name=name, ports=list(top.pins.values())), top) as text:
        yield lambda: from_rtlil(text())


def to_verilog(top: Top, name: str) -> str:
    """The same, by this process."""
    return converted(top, name=name, ports=list(top.pins.values()))


def to_verilog_block(component: Component, name: str) -> str:
    """A component by itself, as Verilog-2005 with plain identifiers."""
    return converted(component, name=name)


def converted(design: Elaboratable, **named: Any) -> str:
    """Amaranth's Verilog of anything."""
    return from_rtlil(as_rtlil(design, **named))


def as_rtlil(design: Elaboratable, **named: Any) -> str:
    """Amaranth's text for yosys."""
    with uncollected():
        return design_text(design, **named)


def from_rtlil(text: str) -> str:
    """Verilog, which yosys writes; it starts in the environment of every program."""
    try:
        with for_libraries():
            return plain_names(verilog._convert_rtlil_text(text))
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


def plain_names(text: str) -> str:
    """Escaped identifiers (`\\acc[3] `) become plain ones (`acc_3`), each its own.

    yosys has miscompiled names with brackets, and simulators read them in different ways.
    """
    taken = set(re.findall(r"(?<![\\\w$])[A-Za-z_]\w*", text))
    renamed: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        name = match[1]
        if name not in renamed:
            short = re.sub(r"\W+", "_", name).strip("_")
            keyword = short == name  # nothing else would have made it an escaped name
            renamed[name] = unique(
                f"n_{short}" if keyword or not short[:1].isalpha() else short, taken
            )
        return renamed[name] + " "

    return re.sub(r"\\(\S+)\s", plain, text)
