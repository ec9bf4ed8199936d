"""The cocotb test of rescale_unit: accumulators of a trace in, its int8 codes expected out."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from intaglio.cosim import Scoreboard, Trace
from intaglio.cosim.stream import Driver, Monitor, Stream
from intaglio.fixed import IntType


@cocotb.test()
async def codes_match(dut):
    trace = Trace.open(os.environ["TRACE"])
    wide = trace.port("conv.acc", type=IntType(32, True))
    board = Scoreboard(trace.port("conv"), trace.codes("conv"))
    source = Stream(dut.acc, dut.acc_vld, dut.acc_rdy)
    sink = Stream(dut.act, dut.act_vld, dut.act_rdy)
    driver = Driver(source, dut.clk, stalls=0.1, seed=5)
    monitor = Monitor(sink, dut.clk, board, back_pressure=0.1, seed=6)

    dut.rst_n.value = 0
    Clock(dut.clk, 2, "ns").start()
    await ClockCycles(dut.clk, 4)
    dut.rst_n.value = 1
    cocotb.start_soon(driver.play(wide, trace.codes("conv.acc")))
    await monitor.take(patience=1000)
    board.check()
    dut._log.info("%d codes, all equal", len(board.expected))
