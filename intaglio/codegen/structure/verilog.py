"""Amaranth to Verilog: yosys writes it, here every name becomes a plain identifier.

Amaranth makes millions of objects that all stay until the text is there: the search for garbage,
which looks at all of them again and again, would take half the time. yosys takes the modules in
the order of their names and each by itself, so that a large design is shared out to several.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Elaboratable

from intaglio.codegen.structure.assemble import Component, Top
from intaglio.codegen.structure.graph import unique
from intaglio.errors import ToolError
from intaglio.system.processes import complaint, for_libraries
from intaglio.system.threads import most

SHARE = 1 << 20  # letters of RTLIL that are worth a yosys of their own, which takes long to start
END = "\nend\n\n"  # of a module of RTLIL: all that is inside is indented
COUNTED = re.compile(r"(?<=dump_module\$)\d+")  # yosys numbers a signal of its own in each module


def to_verilog(top: Top, name: str, threads: int | None = None) -> str:
    """The design as Verilog-2005 whose every name is a plain identifier, the same with any number
    of `threads` (default: the processors)."""
    return converted(top, name=name, ports=list(top.pins.values()), threads=threads)


def to_verilog_block(component: Component, name: str) -> str:
    """A component by itself, as Verilog-2005 with plain identifiers."""
    return converted(component, name=name)


def converted(design: Elaboratable, *, threads: int | None = None, **named: Any) -> str:
    """Amaranth's Verilog, which yosys writes; it starts in the environment of every program."""
    with uncollected():
        text = rtlil.convert(design, emit_src=False, **named)
    try:
        with for_libraries():
            return plain_names(written(text, most(threads)))
    except verilog.YosysError as error:
        raise ToolError(
            f"yosys must write the Verilog, but stopped: {complaint(str(error))}."
        ) from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for garbage in circles, which is made up for at the end."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
        gc.collect()


def written(text: str, threads: int) -> str:
    """The Verilog of RTLIL, from as many yosys as it is worth."""
    parts = shared_out(text, max(1, min(threads, len(text) // SHARE)))
    if len(parts) == 1:
        return of_yosys(parts[0])
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(of_yosys, parts))
    bodies, count = [found[0]], last_number(found[0])
    for more in found[1:]:
        _, _, body = more.partition("\n")  # the first line says who wrote it
        bodies.append(COUNTED.sub(partial(later, count), body))
        count = last_number(bodies[-1]) or count
    return "".join(bodies)


def shared_out(text: str, count: int) -> list[str]:
    """RTLIL in parts of about equal size, whole modules in the order of their names."""
    if count == 1:
        return [text]
    modules = [module + END for module in text.split(END) if module]
    names = [re.findall(r"^module (\S+)", module, re.M) for module in modules]
    order = sorted(range(len(modules)), key=lambda k: names[k])
    parts: list[list[int]] = [[] for _ in range(count)]
    before = 0
    for k in order:
        parts[before * count // len(text)].append(k)
        before += len(modules[k])
    return ["".join(modules[k] for k in sorted(part)) for part in parts if part]


def later(count: int, number: re.Match[str]) -> str:
    """A number that yosys gave, behind so many others."""
    return str(count + int(number[0]))


def last_number(text: str) -> int:
    """The largest that yosys gave."""
    return max((int(n) for n in COUNTED.findall(text)), default=0)


def of_yosys(text: str) -> str:
    """The Verilog of RTLIL, as Amaranth has it written."""
    found: str = verilog._convert_rtlil_text(text)
    return found


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
