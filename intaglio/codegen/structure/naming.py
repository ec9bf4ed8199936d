"""What things are called in the Verilog, so that it reads as the Python does and is the same in
every build: a component's ports as in its signature, a stream between blocks as its driver's port,
a register as the Python calls it, and any other value after that which it is computed for.

Amaranth calls a port what it first finds a net called, and the result of an operator nothing. This
works on its netlist, between the nets and the text.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Signal, Value, _ir, _nir
from amaranth.hdl._ast import SignalDict
from amaranth.lib import wiring

from intaglio.codegen.structure.graph import unique

ROOT = 40  # characters of a name that others are made from
WORDS = {
    "+": "sum", "-": "difference", "*": "product", "&": "and", "|": "or", "^": "xor", "~": "not",
    "m": "choice", "==": "equal", "!=": "differs", "u<": "less", "s<": "less", "u>": "more",
    "s>": "more", "u<=": "at_most", "s<=": "at_most", "u>=": "at_least", "s>=": "at_least",
    "<<": "left", "u>>": "right", "s>>": "right", "b": "any", "r|": "any", "r&": "all",
    "r^": "parity",
}  # fmt: skip
KINDS = {"Part": "part", "AssignmentList": "next", "FlipFlop": "held"}


@dataclass(frozen=True)
class Member:
    """A signal of a component's signature."""

    name: str
    signal: Any
    out: bool


@dataclass
class Scope:
    """What is called what in one module; `names`: of values that are no signal's; `about`: what the
    component says that it is."""

    members: list[Member]
    taken: set[str]
    about: str = ""
    names: dict[Any, str] = field(default_factory=dict)


def scopes(netlist: Any, modules: Mapping[Any, int]) -> list[Scope]:
    """Of every module, by its place in the netlist; `modules` are those by their fragments."""
    own: dict[int, list[Member]] = {}
    about: dict[int, str] = {}
    for fragment, place in modules.items():
        if type(fragment) is _ir.Fragment:  # no instance, no memory
            components = [o for o in fragment.origins or () if isinstance(o, wiring.Component)]
            own[place] = [member for one in components for member in signature(one)]
            about[place] = "".join(first_sentence(one) for one in components[:1])
    found = []
    for place, module in enumerate(netlist.modules):
        inside = {netlist.modules[k].name[-1] for k in module.submodules}
        cells = (netlist.cells[k] for k in module.cells)
        inside |= {c.name for c in cells if isinstance(c, (_nir.Memory, _nir.Instance))}
        found.append(Scope(own.get(place, []), inside, about.get(place, "")))
    return found


def signature(component: Any) -> Iterator[Member]:
    """The signals of a component's signature."""
    for path, member, port in component.signature.flatten(component):
        signal = Value.cast(port)
        if isinstance(signal, Signal):
            yield Member("_".join(map(str, path)), signal, member.flow == wiring.Out)


def first_sentence(component: Any) -> str:
    """Of its class's docstring."""
    text = " ".join((inspect.getdoc(type(component)) or "").split())
    return text.partition(". ")[0].removesuffix(".") + "."


def name_signals(netlist: Any, found: list[Scope]) -> None:
    """Every value of a module has one name there: of its own ports, of those of what is inside it
    that drive it, of its own signals, or of another's inputs, in this order."""
    home = SignalDict()
    for place, scope in enumerate(found):
        for member in scope.members:
            home[member.signal] = (place, member)
    for place, (module, scope) in enumerate(zip(netlist.modules, found, strict=True)):
        seen, module.signal_names = module.signal_names, SignalDict()
        if place == 0:  # whose ports have their names
            ports = {**netlist.top.ports_i, **netlist.top.ports_o}
            scope.taken |= ports.keys()
            module.signal_names.update((s, name) for s, name in seen.items() if name in ports)
        ranked: list[list[tuple[Any, str]]] = [[], [], [], []]
        ranked[0] += [(m.signal, m.name) for m in scope.members]
        for signal, _ in seen.items():
            at, member = home.get(signal, (place, None))
            if at == place:
                ranked[2].append((signal, signal.name.replace("__", "_")))
                continue
            inner = "_".join((*netlist.modules[at].name[len(module.name) :], member.name))
            ranked[1 if member.out else 3].append((signal, inner))
        named = {netlist.signals[signal] for signal in module.signal_names}
        for signal, wish in (pair for rank in ranked for pair in rank):
            value = netlist.signals.get(signal)
            idle = value is None or all(net.is_const for net in value)
            if signal in module.signal_names or ((idle or value in named) and not signal.attrs):
                continue
            if value is not None:
                module.signal_names[signal] = unique(wish, scope.taken)
                named.add(value)


def name_ports(netlist: Any, found: list[Scope]) -> None:
    """The ports of every module: whole ones of its signature, and what else goes in or out."""
    starts = boundaries(netlist)
    for place, module in enumerate(netlist.modules):
        if place:
            done = own_ports(netlist, module, found[place])
            other_ports(netlist, place, found, done, starts)
    top, whole = netlist.top, netlist.modules[0].ports
    for name, (start, width) in top.ports_i.items():
        nets = (_nir.Net.from_cell(0, start + bit) for bit in range(width))
        whole[name] = (_nir.Value(nets), _nir.ModuleNetFlow.Input)
    for name, value in top.ports_o.items():
        whole[name] = (value, _nir.ModuleNetFlow.Output)


def boundaries(netlist: Any) -> set[Any]:
    """Nets with which a port begins: the first of each output of an instance and of the top."""
    starts = {_nir.Net.from_cell(0, start) for start, _ in netlist.top.ports_i.values()}
    for index, cell in enumerate(netlist.cells):
        if isinstance(cell, _nir.Instance):
            starts |= {_nir.Net.from_cell(index, start) for start, _ in cell.ports_o.values()}
    return starts


def own_ports(netlist: Any, module: Any, scope: Scope) -> set[Any]:
    """Makes ports of the signature's signals that come in or go out, or of those of their bits that
    do; their nets. An input may have constant bits, which the inside does not ask for."""
    done: set[Any] = set()
    for member in scope.members:
        name = module.signal_names.get(member.signal)
        if name is None:
            continue
        value = netlist.signals[member.signal]
        flow = _nir.ModuleNetFlow.Output if member.out else _nir.ModuleNetFlow.Input
        bits = []
        for bit, net in enumerate(value):
            if not net.is_const and module.net_flow.get(net) is flow and net not in done:
                bits.append(bit)
                done.add(net)
        missing = sum(member.out or not net.is_const for net in value) - len(bits)
        if bits and not missing:
            module.ports[name] = (value, flow)
            continue
        for first, last in runs(bits):
            part = unique(f"{name}_{first}", scope.taken)
            module.ports[part] = (value[first : last + 1], flow)
    return done


def runs(bits: Iterable[int]) -> list[tuple[int, int]]:
    """The first and last of numbers that follow each other."""
    found: list[tuple[int, int]] = []
    for bit in bits:
        if found and found[-1][1] == bit - 1:
            found[-1] = (found[-1][0], bit)
        else:
            found.append((bit, bit))
    return found


def other_ports(
    netlist: Any, place: int, found: list[Scope], done: set[Any], starts: set[Any]
) -> None:
    """Makes ports of all other nets that come in or go out, as many of a cell's at once as lie side
    by side and go the same way."""
    module, scope = netlist.modules[place], found[place]
    flows, called = module.net_flow, {netlist.signals[s]: n for s, n in module.signal_names.items()}
    for first in sorted(net for net, flow in flows.items() if flow != _nir.ModuleNetFlow.Internal):
        if first in done:
            continue
        nets = [first]
        while True:
            after = _nir.Net.from_cell(nets[-1].cell, nets[-1].bit + 1)
            if after in starts or after in done or flows.get(after) != flows[first]:
                break
            nets.append(after)
        done.update(nets)
        value = _nir.Value(nets)
        name = called.get(value) or unique(driver(netlist, value, found), scope.taken)
        module.ports[name] = (value, flows[first])


def driver(netlist: Any, value: Any, found: list[Scope]) -> str:
    """What nets are called where they come from, with the first bit of a part."""
    place = netlist.cells[value[0].cell].module_idx
    for signal, name in netlist.modules[place].signal_names.items():
        whole = netlist.signals[signal]
        if value[0] in whole:
            first = tuple(whole).index(value[0])
            return str(name) if len(whole) == len(value) else f"{name}_{first}"
    return next((n for v, n in found[place].names.items() if value[0] in v), "inner")


def name_results(netlist: Any, found: list[Scope]) -> None:
    """Names of what cells compute and no signal has, after the register or signal for which it is
    computed, or which it first helps to."""
    for module, scope in zip(netlist.modules, found, strict=True):
        called = {netlist.signals[s]: n for s, n in module.signal_names.items()}
        results = {index: result(netlist.cells[index], index) for index in module.cells}
        users = first_users(netlist, module)
        roots = {k: called[value] for k, value in results.items() if value in called}
        for index, value in results.items():
            if len(value) and value not in called:
                root, word = root_of(index, users, roots)[:ROOT], word_of(netlist.cells[index])
                scope.names[value] = unique(f"{root}_{word}" if root else word, scope.taken)


def result(cell: Any, index: int) -> Any:
    """The nets of the wire that a cell drives, if it has one of its own."""
    match cell:
        case _nir.Operator() | _nir.Part() | _nir.AnyValue():
            count = cell.width
        case _nir.SyncReadPort() | _nir.AsyncReadPort():
            count = cell.width
        case _nir.FlipFlop():
            count = len(cell.data)
        case _nir.AssignmentList():
            count = len(cell.default)
        case _:
            count = int(isinstance(cell, _nir.Initial))
    return _nir.Value(_nir.Net.from_cell(index, bit) for bit in range(count))


def first_users(netlist: Any, module: Any) -> dict[int, int]:
    """Of every cell in a module the first there that reads it."""
    users: dict[int, int] = {}
    for index in module.cells:
        for net in netlist.cells[index].input_nets():
            if not net.is_const:
                users.setdefault(net.cell, index)
    return users


def root_of(index: int, users: Mapping[int, int], roots: dict[int, str]) -> str:
    """The name of the first that has one, on the way from a cell to what it is read by."""
    way, at = [], index
    while at not in roots:
        roots[at] = ""  # a way may come back through a register
        way.append(at)
        if at not in users:
            break
        at = users[at]
    for step in way:
        roots[step] = roots[at]
    return roots[index]


def word_of(cell: Any) -> str:
    """What a cell makes of its inputs, in a word."""
    if isinstance(cell, _nir.Operator):
        return WORDS.get(cell.operator, "value")
    return KINDS.get(type(cell).__name__, "value")


def name_outputs(netlist: Any, found: list[Scope]) -> None:
    """Names of what comes out of the modules in a module and no signal there has."""
    for module, scope in zip(netlist.modules, found, strict=True):
        called = {netlist.signals[s] for s in module.signal_names}
        for place in module.submodules:
            inner = netlist.modules[place]
            for port, (value, flow) in inner.ports.items():
                if flow == _nir.ModuleNetFlow.Output and value not in called:
                    wish = f"{inner.name[-1]}_{port}"
                    scope.names.setdefault(value, unique(wish, scope.taken))
