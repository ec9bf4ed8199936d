"""The wrapper as an IP-XACT component (IEEE 1685-2014)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as Xml

from intaglio.codegen.structure.ports import FRAME_ERROR, Port

NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
# The stream as Arm publishes it for IP-XACT.
BUS = {"vendor": "amba.com", "library": "AMBA4", "name": "AXI4Stream", "version": "r0p0_1"}
ABSTRACTION = {**BUS, "name": "AXI4Stream_rtl"}
RTL, ROM = "rtl", "rom"  # file sets


def ipxact(
    name: str,
    wrapper: str,
    source: Port,
    sinks: Sequence[Port],
    sources: Sequence[str],
    roms: Iterable[str],
) -> str:
    """component.xml; paths are relative to it."""
    Xml.register_namespace("ipxact", NAMESPACE)
    top = Xml.Element(tag("component"))
    for key, value in (("vendor", "intaglio"), ("library", "build"), ("name", name),
                       ("version", "1.0")):  # fmt: skip
        add(top, key, value)
    buses = add(top, "busInterfaces")
    for port in (source, *sinks):
        bus_interface(buses, port, "slave" if port is source else "master")
    model = add(top, "model")
    view = add(add(model, "views"), "view")
    add(view, "name", RTL)
    add(view, "componentInstantiationRef", RTL)
    made = add(add(model, "instantiations"), "componentInstantiation")
    add(made, "name", RTL)
    add(made, "language", "Verilog")
    add(made, "moduleName", wrapper)
    for files in (RTL, ROM):
        add(add(made, "fileSetRef"), "localName", files)
    ports = add(model, "ports")
    for wire, direction, width in wires(source, sinks):
        one_port(ports, wire, direction, width)
    sets = add(top, "fileSets")
    file_set(sets, RTL, sources, "verilogSource")
    file_set(sets, ROM, roms, "user")
    add(top, "description", "A quantised network as a block of AXI4-Stream; see datasheet.md.")
    Xml.indent(top)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Xml.tostring(top, encoding="unicode")}\n'


def tag(name: str) -> str:
    """A name of the standard's."""
    return f"{{{NAMESPACE}}}{name}"


def add(parent: Xml.Element, name: str, text: str | None = None) -> Xml.Element:
    """A new last child."""
    child = Xml.SubElement(parent, tag(name))
    child.text = text
    return child


def stream_wires(port: Port, source: Port) -> list[tuple[str, str, int | None]]:
    """Those of one stream: logical name, direction, width (None: a single wire)."""
    forth, back = ("in", "out") if port is source else ("out", "in")
    keep = [] if port is source else [("TKEEP", forth, port.data_width // 8)]
    return [("TDATA", forth, port.data_width), *keep, ("TVALID", forth, None),
            ("TREADY", back, None), ("TLAST", forth, None)]  # fmt: skip


def wires(source: Port, sinks: Sequence[Port]) -> list[tuple[str, str, int | None]]:
    """Every port of the wrapper: name, direction, width."""
    found: list[tuple[str, str, int | None]] = [("aclk", "in", None), ("aresetn", "in", None)]
    for port in (source, *sinks):
        found += [(f"{port.name}_{logical.lower()}", direction, width)
                  for logical, direction, width in stream_wires(port, source)]  # fmt: skip
    return [*found, (FRAME_ERROR, "out", None)]


def bus_interface(buses: Xml.Element, port: Port, mode: str) -> None:
    """One stream."""
    bus = add(buses, "busInterface")
    add(bus, "name", port.name)
    Xml.SubElement(bus, tag("busType"), BUS)
    kind = add(add(bus, "abstractionTypes"), "abstractionType")
    Xml.SubElement(kind, tag("abstractionRef"), ABSTRACTION)
    maps = add(kind, "portMaps")
    logical = ["TDATA", *(["TKEEP"] if mode == "master" else []), "TVALID", "TREADY", "TLAST"]
    clocked = [("ACLK", "aclk"), ("ARESETn", "aresetn")]
    for name, physical in [(n, f"{port.name}_{n.lower()}") for n in logical] + clocked:
        joined = add(maps, "portMap")
        add(add(joined, "logicalPort"), "name", name)
        add(add(joined, "physicalPort"), "name", physical)
    add(bus, mode)


def one_port(ports: Xml.Element, name: str, direction: str, width: int | None) -> None:
    """A port of the module."""
    port = add(ports, "port")
    add(port, "name", name)
    wire = add(port, "wire")
    add(wire, "direction", direction)
    if width is not None:
        vector = add(add(wire, "vectors"), "vector")
        add(vector, "left", str(width - 1))
        add(vector, "right", "0")


def file_set(sets: Xml.Element, name: str, paths: Iterable[str], kind: str) -> None:
    """Files of one kind."""
    files = add(sets, "fileSet")
    add(files, "name", name)
    for path in paths:
        file = add(files, "file")
        add(file, "name", path)
        add(file, "fileType", kind)
        if kind == "user":
            file[-1].set("user", "readmemh")
