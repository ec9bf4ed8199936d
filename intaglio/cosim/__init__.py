"""The golden model in other people's benches: tensors as beats, traces, and a cocotb helper.

    port      a tensor as the beats of a stream
    trace     every tensor of a run, on disk, with the tables of the layers
    tables    formula, weights, M, B, S, clamps of a layer
    score     beats delivered against beats expected, the first that differs
    stream    cocotb: drivers and monitors of valid/ready streams

Nothing here needs torch or Amaranth; `stream` alone imports cocotb, and only the writing of traces
runs the simulator. docs/cosim.md shows how to use it.
"""

from intaglio.cosim.port import Port, tensor_port
from intaglio.cosim.score import Mismatch, Scoreboard
from intaglio.cosim.trace import Trace, table_text, write_trace

__all__ = ["Mismatch", "Port", "Scoreboard", "Trace", "table_text", "tensor_port", "write_trace"]
