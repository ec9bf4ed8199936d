"""Amaranth's netlist of a design as text for yosys, the text of its modules by two processes.

What `amaranth.back.rtlil.convert` does, in the same order, except for the search for combinational
cycles, which needs nothing but the netlist: it is done beside the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import _ast, _ir, _nir

from intaglio.system.copies import meanwhile
from intaglio.system.threads import most

CHECK = 0.45  # of a cell's text: what looking for cycles through it takes
ALONE = 20_000  # cells whose text takes no longer than another process


@dataclass(frozen=True)
class Share:
    """Modules of a netlist, by their places in it, whose text is wanted; `check`: and a search of
    the whole netlist for cycles, which raises CombinationalCycle."""

    netlist: Any
    places: Sequence[int]
    check: bool


def design_text(elaboratable: Any, name: str, ports: Sequence[Any] | None = None) -> str:
    """The same text as `rtlil.convert` gives without places in the source; ports: None, a
    component's own."""
    if ports is None:
        return str(rtlil.convert(elaboratable, name=name, emit_src=False))
    netlist = netlist_of(_ir.Fragment.get(elaboratable, None), name, ports)
    first, second = shares(netlist)
    with meanwhile(text_of, second, most() if len(netlist.cells) > ALONE else 1) as rest:
        return text_of(first) + rest()


def netlist_of(fragment: Any, name: str, ports: Any) -> Any:
    """What `_ir.build_netlist` makes, not yet searched for cycles."""
    design = fragment.prepare(ports=ports, hierarchy=(name,))
    netlist = _nir.Netlist()
    _ir._emit_netlist(netlist, design, all_undef_to_ff=False)
    netlist.resolve_all_nets()
    _ir._compute_net_flows(netlist)
    _ir._compute_ports(netlist)
    _ir._compute_ionet_dirs(netlist)
    _ir._compute_io_ports(netlist, design.ports)
    return netlist


def shares(netlist: Any) -> tuple[Share, Share]:
    """The modules in two parts that take as long, the second with the search for cycles."""
    own = [len(module.cells) for module in netlist.modules]
    left = (1 + CHECK) * sum(own) / 2
    places = range(len(own))
    for place in places:
        left -= own[place]
        if left < 0:
            break
    return Share(netlist, places[:place], False), Share(netlist, places[place:], True)


def text_of(share: Share) -> str:
    """Of modules that are not empty."""
    netlist = share.netlist
    if share.check:
        netlist.check_comb_cycles()
    empty, text = rtlil.EmptyModuleChecker(netlist), rtlil.Design(emit_src=False)
    names = _ast.SignalDict()
    for place in share.places:
        module = netlist.modules[place]
        if empty.is_empty(place):
            continue
        made = text.module(".".join(module.name), src_loc=module.src_loc)
        if place == 0:
            made.attribute("top", 1)
        rtlil.ModuleEmitter(made, netlist, module, names, empty_checker=empty).emit()
    return str(text)
