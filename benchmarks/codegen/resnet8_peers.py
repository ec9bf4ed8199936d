"""What others report for ResNet8 on CIFAR-10, and where it was read. Nothing is measured here.

None: not found. `read` says how we know: "summary" of a paper's abstract, "notes" of a third party
on the paper, or the submitter's "log". We have not seen the papers' tables.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One published design."""

    tool: str
    bits: int
    device: str
    clock_mhz: float | None
    fps: float | None
    more_than: bool
    luts: int | None
    dsp: int | None
    source: str
    read: str


MINNELLA = "Minnella et al., arXiv:2309.15631, abstract"
BOSIO = "Bosio et al., IEEE TCAD 44(5), 2025"
HAMANAKA = "Hamanaka et al., IEEE Access, 2023"
TINY = "MLPerf Tiny v0.7, open division, hls4ml-FINN"

PEERS = (
    Peer("NN2FPGA", 8, "Kria KV260", None, 30_153, False, None, None, MINNELLA, "summary"),
    Peer("NN2FPGA", 8, "Ultra96-V2", None, 12_000, True, None, None, MINNELLA, "summary"),
    Peer("NN2FPGA", 4, "Kria KV260", None, 61_035, False, None, None, BOSIO, "notes"),
    Peer("FINN", 4, "Kria K26", 225, 13_475, False, None, None, HAMANAKA, "notes"),
    Peer("hls4ml (RN07)", 8, "PYNQ-Z2 (Zynq 7020)", 100, 36.6, False, None, None, TINY, "log"),
    Peer("FINN (CNV)", 1, "PYNQ-Z2 (Zynq 7020)", 100, 661.5, False, None, None, TINY, "log"),
    Peer("Vitis AI DPU B4096", 8, "Kria K26", 300, 1_024, False, 49_418, 690, HAMANAKA, "notes"),
)
