# amaranth: UnusedElaboratable=no
"""What stands around a build on a device: its AXI4-Streams behind a link of bytes, and on a board
that link behind a serial line."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Const,
    DomainRenamer,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import connect

from intaglio.chip.pll import instance
from intaglio.chip.protocol import QUEUE
from intaglio.codegen.area.clocks import Pll
from intaglio.codegen.structure.assemble import converted
from intaglio.cosim.port import Port
from intaglio.hdl.fifo import Fifo
from intaglio.hdl.link import Link
from intaglio.hdl.uart import UartReceiver, UartSender

SHELL, BOARD = "shell", "board"  # module names
POWER_ON = 20e-6  # seconds in reset: iCE40 block RAMs answer late after configuration


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
    return converted(shell, name=SHELL, ports=list(shell.pins.values()))


class BoardTop(Elaboratable):  # type: ignore[misc]  # Amaranth is untyped
    """The core behind a serial line: ports clk, rx, tx, and outputs that are held at 1.

    loop  makes the design's clock of `clk`; None: `clk` is it.
    cycles  clocks a bit of the line.

    The design is in reset until the loop has locked and POWER_ON is over, and while the host sends
    a break.
    """

    def __init__(
        self, core: Core, *, clock_mhz: float, cycles: int, loop: Pll | None, high: Sequence[str]
    ) -> None:
        self.core = core
        self.clock_mhz = clock_mhz
        self.cycles = cycles
        self.loop = loop
        self.clk = Signal(name="clk")
        self.rx = Signal(name="rx", init=1)
        self.tx = Signal(name="tx")
        self.high = [Signal(name=name) for name in high]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.domains.wake = wake = ClockDomain(reset_less=True)  # the same clock
        locked = Signal()
        if self.loop is None:
            domain.clk = wake.clk = self.clk
            m.d.comb += locked.eq(1)
        else:
            domain.clk = wake.clk = clock = Signal(name="pll_clk")
            lock = Signal()
            m.submodules.pll = instance(self.loop, self.clk, clock, lock)
            m.submodules.locked = FFSynchronizer(lock, locked, o_domain="wake")
        m.submodules.receiver = receiver = DomainRenamer("wake")(UartReceiver(cycles=self.cycles))
        m.submodules.queue = queue = Fifo(width=8, depth=QUEUE)
        m.submodules.core = self.core
        m.submodules.sender = sender = UartSender(cycles=self.cycles)
        connect(m, receiver.o, queue.i)
        connect(m, queue.o, self.core.link.rx)
        connect(m, self.core.link.tx, sender.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(sender.tx)]
        m.d.comb += [pin.eq(Const(1)) for pin in self.high]
        wait = round(POWER_ON * self.clock_mhz * 1e6)
        left = Signal(range(wait + 1), init=wait)
        with m.If(locked & (left != 0)):
            m.d.wake += left.eq(left - 1)
        domain.rst = Signal(name="rst", init=1)
        m.d.wake += domain.rst.eq((left != 0) | receiver.broken)
        return m


def board_verilog(top: BoardTop) -> str:
    """Module `board`: ports clk, rx, tx and those held at 1."""
    ports = [top.clk, top.rx, top.tx, *top.high]
    return converted(top, name=BOARD, ports=ports)


def shell_pins() -> list[str]:
    """Every port bit of the shell, as constraint files call them."""
    buses = [f"{name}[{bit}]" for name in ("rx_data", "tx_data") for bit in range(8)]
    return ["clk", "rst", *buses, "rx_valid", "rx_ready", "tx_valid", "tx_ready"]
