# amaranth: UnusedElaboratable=no
"""What stands around a build on a device: its AXI4-Streams behind a link of bytes."""

from collections.abc import Sequence
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal

from intaglio.codegen.assemble import plain_names
from intaglio.cosim.port import Port
from intaglio.hdl.link import Link

SHELL = "shell"  # module name


class Core(Elaboratable):  # type: ignore[misc]  # Amaranth is untyped
    """An instance of the build's top behind a `Link`, whose `rx` and `tx` are the ports."""

    def __init__(self, *, name: str, source: Port, sinks: Sequence[Port]) -> None:
        self.name = name
        self.source = source
        self.sinks = tuple(sinks)
        self.link = Link(width=source.data_width, widths=[sink.data_width for sink in self.sinks])

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.link = link = self.link
        wires: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        streams = [(self.source, link.o, "i", "o")]
        streams += [
            (sink, getattr(link, port), "o", "i")
            for sink, port in zip(self.sinks, link.ports, strict=True)
        ]
        for port, axis, forward, back in streams:
            for wire in ("tdata", "tvalid", "tlast"):
                wires[f"{forward}_{port.name}_{wire}"] = getattr(axis, wire)
            wires[f"{back}_{port.name}_tready"] = axis.tready
        m.submodules.core = Instance(self.name, **wires)
        return m


class Shell(Elaboratable):  # type: ignore[misc]  # Amaranth is untyped
    """The core with its bytes on 20 pins: what is placed and routed where no board is named.

    Nothing is optimised away, for every bit of every stream can be sent and seen.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.pins = {
            name: Signal(width, name=name)
            for name, width in (("rx_data", 8), ("rx_valid", 1), ("rx_ready", 1),
                                ("tx_data", 8), ("tx_valid", 1), ("tx_ready", 1))
        }  # fmt: skip

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.core = self.core
        rx, tx, pins = self.core.link.rx, self.core.link.tx, self.pins
        m.d.comb += [
            rx.payload.eq(pins["rx_data"]),
            rx.valid.eq(pins["rx_valid"]),
            pins["rx_ready"].eq(rx.ready),
            pins["tx_data"].eq(tx.payload),
            pins["tx_valid"].eq(tx.valid),
            tx.ready.eq(pins["tx_ready"]),
        ]
        return m


def shell_verilog(core: Core) -> str:
    """Module `shell`: ports clk, rst and those of `Shell`."""
    shell = Shell(core)
    text = verilog.convert(shell, name=SHELL, ports=list(shell.pins.values()), emit_src=False)
    return plain_names(text)


def shell_pins() -> list[str]:
    """Every port bit of the shell, as constraint files call them."""
    buses = [f"{name}[{bit}]" for name in ("rx_data", "tx_data") for bit in range(8)]
    return ["clk", "rst", *buses, "rx_valid", "rx_ready", "tx_valid", "tx_ready"]
