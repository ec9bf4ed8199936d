"""Amaranth's netlist of a design as text for yosys, the text of its modules by two processes.

What `amaranth.back.rtlil.convert` does, but for the names, which are `naming`'s, and the search for
combinational cycles, which needs nothing but the netlist: it is done beside the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import _ast, _ir, _nir

from intaglio.codegen.structure.naming import (
    Scope,
    name_outputs,
    name_ports,
    name_results,
    name_signals,
    scopes,
    signature,
)
from intaglio.system.copies import meanwhile
from intaglio.system.threads import most

DIRECTIONS = (_ir.PortDirection.Input, _ir.PortDirection.Output)
ABOUT, NOTHING = "about", MappingProxyType[str, str]({})
CHECK = 0.45  # of a cell's text: what looking for cycles through it takes
ALONE = 20_000  # cells whose text takes no longer than another process


class Emitter(rtlil.ModuleEmitter):  # type: ignore[misc]  # Amaranth is untyped
    """Amaranth's, with names for the values that no signal has, and without a wire for each field
    of a signal."""

    def __init__(
        self, made: Any, netlist: Any, module: Any, known: Any, empty: Any, names: Mapping[Any, str]
    ) -> None:
        super().__init__(made, netlist, module, known, empty_checker=empty)
        self.names = names

    def emit_driven_wire(self, value: Any) -> Any:
        if value in self.value_names or value not in self.names:
            return super().emit_driven_wire(value)
        attributes = self.value_attrs.get(value, {})
        wire = self.builder.wire(len(value), name=self.names[value], attrs=attributes)
        self.nets.update((net, (wire, bit)) for bit, net in enumerate(value))
        return wire

    def emit_signal_fields(self) -> None:
        pass


@dataclass(frozen=True)
class Share:
    """Modules of a netlist, by their places in it, whose text is wanted; `check`: and a search of
    the whole netlist for cycles, which raises CombinationalCycle."""

    netlist: Any
    found: list[Scope]
    places: Sequence[int]
    check: bool


def design_text(
    elaboratable: Any, name: str, ports: Sequence[Any] | None = None,
    about: Mapping[str, str] = NOTHING,
) -> str:  # fmt: skip
    """The text of a design with those signals as ports; None: with those of its signature. Modules
    have an attribute `about`: of those at the top, by their names, or what the component says."""
    pins = ports if ports is not None else {
        member.name: (member.signal, DIRECTIONS[member.out]) for member in signature(elaboratable)
    }  # fmt: skip
    netlist, found = netlist_of(_ir.Fragment.get(elaboratable, None), name, pins)
    for module, scope in zip(netlist.modules, found, strict=True):
        if len(module.name) == 2:
            scope.about = about.get(module.name[1], scope.about)
    first, second = shares(netlist, found)
    with meanwhile(text_of, second, most() if len(netlist.cells) > ALONE else 1) as rest:
        return text_of(first) + rest()


def netlist_of(fragment: Any, name: str, ports: Any) -> tuple[Any, list[Scope]]:
    """What `_ir.build_netlist` makes, not searched for cycles, and what is called what there."""
    design = fragment.prepare(ports=ports, hierarchy=(name,))
    netlist = _nir.Netlist()
    emitter = _ir.NetlistEmitter(netlist, design)
    emitter.emit_fragment(design.fragment, None)
    netlist.resolve_all_nets()
    found = scopes(netlist, emitter.fragment_module_idx)
    name_signals(netlist, found)
    name_results(netlist, found)
    _ir._compute_net_flows(netlist)
    name_ports(netlist, found)
    name_outputs(netlist, found)
    _ir._compute_ionet_dirs(netlist)
    _ir._compute_io_ports(netlist, design.ports)
    return netlist, found


def shares(netlist: Any, found: list[Scope]) -> tuple[Share, Share]:
    """The modules in two parts that take as long, the second with the search for cycles."""
    own = [len(module.cells) for module in netlist.modules]
    left = (1 + CHECK) * sum(own) / 2
    places = range(len(own))
    for place in places:
        left -= own[place]
        if left < 0:
            break
    return (
        Share(netlist, found, places[:place], False),
        Share(netlist, found, places[place:], True),
    )


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
        if share.found[place].about:
            made.attribute(ABOUT, share.found[place].about)
        Emitter(made, netlist, module, names, empty, share.found[place].names).emit()
    return str(text)
