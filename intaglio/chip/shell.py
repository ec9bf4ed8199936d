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
from intaglio.codegen.structure.verilog import to_verilog_block
from intaglio.cosim.port import Port
from intaglio.hdl.fifo import Fifo
from intaglio.hdl.link import Link
from intaglio.hdl.spi import SpiPort
from intaglio.hdl.stream import counter
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
    return to_verilog_block(shell, SHELL, list(shell.pins.values()))


class BoardTop(Elaboratable):  # type: ignore[misc]  # Amaranth is untyped
    """The core behind a line to its host: ports clk, the line's, and outputs that are held at 1.

    The line is serial, with ports rx and tx and `cycles` clocks a bit; or an SPI with ports sck,
    cs_n, copi and cipo, where `cycles` is None.

    loop  makes the design's clock of `clk`; None: `clk` is it.

    The design is in reset until the loop has locked and POWER_ON is over, and while the host sends
    a break.
    """

    def __init__(
        self,
        core: Core,
        *,
        clock_mhz: float,
        cycles: int | None,
        loop: Pll | None,
        high: Sequence[str],
    ) -> None:
        self.core = core
        self.clock_mhz = clock_mhz
        self.cycles = cycles
        self.loop = loop
        self.clk = Signal(name="clk")
        ins, outs = (("rx",), ("tx",)) if cycles else (("sck", "cs_n", "copi"), ("cipo",))
        self.line = {name: Signal(name=name, init=name in ("rx", "cs_n")) for name in ins}
        self.line |= {name: Signal(name=name) for name in outs}
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
        m.submodules.queue = queue = Fifo(width=8, depth=QUEUE)
        m.submodules.core = self.core
        connect(m, queue.o, self.core.link.rx)
        broken = self._serial(m, queue) if self.cycles else self._spi(m, queue)
        m.d.comb += [pin.eq(Const(1)) for pin in self.high]
        wait = round(POWER_ON * self.clock_mhz * 1e6)
        left = Signal(range(wait + 1), init=wait)
        with m.If(locked & (left != 0)):
            m.d.wake += left.eq(left - 1)
        domain.rst = Signal(name="rst", init=1)
        m.d.wake += domain.rst.eq((left != 0) | broken)
        return m

    def _serial(self, m: Module, queue: Fifo) -> Signal:
        """A UART before the queue and behind the core; whether there is a break."""
        assert self.cycles
        m.submodules.receiver = receiver = DomainRenamer("wake")(UartReceiver(cycles=self.cycles))
        m.submodules.sender = sender = UartSender(cycles=self.cycles)
        connect(m, receiver.o, queue.i)
        connect(m, self.core.link.tx, sender.i)
        m.d.comb += [receiver.rx.eq(self.line["rx"]), self.line["tx"].eq(sender.tx)]
        broken: Signal = receiver.broken
        return broken

    def _spi(self, m: Module, queue: Fifo) -> Signal:
        """An SPI before the queue and, with a queue of its own, behind the core; whether the host
        resets it."""
        m.submodules.port = port = DomainRenamer({"sync": "wake"})(SpiPort())
        m.submodules.answers = answers = Fifo(width=8, depth=port.block)
        waiting = counter(port.block + 1, "waiting")
        connect(m, port.o, queue.i)
        connect(m, self.core.link.tx, answers.i)
        connect(m, answers.o, port.i)
        into, out = (s.valid & s.ready for s in (answers.i, answers.o))
        m.d.sync += waiting.eq(waiting + into - out)
        m.d.comb += [port.waiting.eq(waiting), self.line["cipo"].eq(port.cipo)]
        m.d.comb += [getattr(port, n).eq(self.line[n]) for n in ("sck", "cs_n", "copi")]
        broken: Signal = port.broken
        return broken


def board_verilog(top: BoardTop) -> str:
    """Module `board`: ports clk, the line's and those held at 1."""
    ports = [top.clk, *top.line.values(), *top.high]
    return to_verilog_block(top, BOARD, ports)


def shell_pins() -> list[str]:
    """Every port bit of the shell, as constraint files call them."""
    buses = [f"{name}[{bit}]" for name in ("rx_data", "tx_data") for bit in range(8)]
    return ["clk", "rst", *buses, "rx_valid", "rx_ready", "tx_valid", "tx_ready"]
