"""ResNet8 of MLPerf Tiny beside other generators: python benchmarks/resnet8.py [--rtl FRAMES].

The network has the CIFAR-10 shape and random weights, so that nobody's accuracy is claimed: a
design's size and speed do not depend on the values of its weights. Each row quantises it, builds
it for a device, and runs random frames through the RTL, compiled by Verilator, and through the
simulator. Written to results/hw.json as "resnet8", and to docs/resnet8.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from hw_json import HW_JSON, put
from resnet8_peers import PEERS, Peer
from torch import nn

from intaglio.codegen.bundle import build
from intaglio.codegen.ports import random_frames
from intaglio.detect.resnet import BasicBlock
from intaglio.disk import write_text
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator

PAGE = Path(__file__).parent.parent / "docs" / "resnet8.md"
CLOCK_MHZ = 75.0  # asked for; place and route has to confirm it
TARGETS = ("ecp5-85k", "xc7z020")
LANES = {8: 500, 4: 1200}  # multipliers at most; both devices hold that
ABSENT = "\N{EN DASH}"
COMMAND = "python benchmarks/resnet8.py"


class ResNet8(nn.Module):
    """A 3x3 convolution to 16 channels, three residual stacks of 16, 32 and 64, the average over
    the map, and a dense layer: uint8-ranged (N, 3, 32, 32) to logits (N, 10)."""

    input_size = (32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        widths = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        self.stacks = nn.Sequential(*(BasicBlock(i, w, stride, 1e-5) for i, w, stride in widths))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) to (N, 10)."""
        y = self.stacks(self.relu(self.bn1(self.conv1(x / 255.0))))
        out: torch.Tensor = self.dense(self.pool(y).flatten(1))
        return out


def resnet8(seed: int = 0) -> ResNet8:
    """With random weights, and running statistics of random images."""
    torch.manual_seed(seed)
    model = ResNet8()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randint(0, 256, (16, 3, 32, 32)).float())
    return model.eval()


@dataclass(frozen=True)
class Row:
    """One build. resources are `build`'s estimate; frames run through the RTL, 0: not run."""

    bits: int
    target: str
    clock_mhz: float
    fps: float
    cycles_per_frame: int
    latency_cycles: int
    latency_us: float
    macs: int
    multipliers: int
    luts: int
    dsp: int
    rams: int
    ram_kbit: int
    rtl_frames: int
    mismatches: int | None
    measured_cycles_per_frame: int | None
    measured_latency_cycles: int | None


def main() -> None:
    """Build, run, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtl", type=int, default=4, metavar="FRAMES", help="0: no RTL run.")
    parser.add_argument("--bits", type=int, nargs="+", default=list(LANES), choices=LANES)
    parser.add_argument("--target", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--folder", type=Path, help="Where compiled designs are kept.")
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    rows = kept(options.bits, options.target)
    for bits in options.bits:
        config = QuantConfig(wbits=bits, abits=bits, first_wbits=bits, method="mse")
        program = quantize(resnet8(), images, config).program
        for target in options.target:
            rows.append(measure(program, bits, target, options.rtl, options.folder))
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: (-row.bits, row.target))
    put("resnet8", [asdict(row) for row in rows])
    write_text(PAGE, page(rows))


def kept(bits: Sequence[int], targets: Sequence[str]) -> list[Row]:
    """Rows of an earlier run that this one does not measure again."""
    found = json.loads(HW_JSON.read_text()) if HW_JSON.exists() else {}
    rows = [Row(**row) for row in found.get("resnet8", ())]
    return [row for row in rows if row.bits not in bits or row.target not in targets]


def measure(program: Program, bits: int, target: str, frames: int, folder: Path | None) -> Row:
    """One design."""
    bundle = build(program, target=target, lanes=LANES[bits], clock_mhz=CLOCK_MHZ)
    facts, resources = bundle.manifest, bundle.manifest["resources"]
    wrong, interval, latency = None, None, None
    if frames:
        (x,) = program.inputs
        stimulus = random_frames(x.type, x.shape, frames)
        played = bundle.compile(folder).play(stimulus, threads=1)
        expected = Simulator(program)(stimulus)
        wrong = sum(int((expected[n] != played.outputs[n]).sum()) for n in expected)
        interval, latency = played.cycles.interval, played.cycles.latency
    return Row(
        bits=bits,
        target=target,
        clock_mhz=CLOCK_MHZ,
        fps=round(facts["fps"], 1),
        cycles_per_frame=facts["cycles_per_frame"],
        latency_cycles=facts["latency_cycles"],
        latency_us=round(facts["latency_cycles"] / CLOCK_MHZ, 1),
        macs=sum(program.macs().values()),
        multipliers=facts["multipliers"],
        luts=resources["luts"],
        dsp=resources["multipliers"],
        rams=resources["rams"],
        ram_kbit=(resources["rom_bits"] + resources["buffer_bits"]) // 1000,
        rtl_frames=frames,
        mismatches=wrong,
        measured_cycles_per_frame=interval,
        measured_latency_cycles=latency,
    )


def page(rows: Sequence[Row]) -> str:
    """docs/resnet8.md."""
    ours = (
        "bits", "target", "clock, MHz", "frames/s", "cycles a frame", "latency, µs", "LUTs", "DSPs",
        "block RAMs", "RTL frames", "integers that differ", "cycles measured",
    )  # fmt: skip
    theirs = (
        "generator", "bits", "device", "clock, MHz", "frames/s", "cycles a frame", "LUTs", "DSPs",
        "source", "read in",
    )  # fmt: skip
    return (
        HEADER
        + "\n## intaglio\n\n"
        + table(ours, [cells(row) for row in rows])
        + NOTES
        + "\n## Others\n\n"
        + table(theirs, [peer_cells(peer) for peer in PEERS])
        + OTHERS
    )


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cells(row: Row) -> list[str]:
    """One of our rows; measured cycles are the frame interval and the first frame's latency."""
    measured = f"{number(row.measured_cycles_per_frame)}, {number(row.measured_latency_cycles)}"
    return [
        str(row.bits), f"`{row.target}`", f"{row.clock_mhz:g}", number(round(row.fps)),
        number(row.cycles_per_frame), f"{row.latency_us:,.0f} ({row.latency_cycles:,} cycles)",
        number(row.luts), number(row.dsp), number(row.rams), number(row.rtl_frames),
        number(row.mismatches), measured,
    ]  # fmt: skip


def peer_cells(peer: Peer) -> list[str]:
    """One published row; cycles a frame are its clock over its rate."""
    per_frame = peer.clock_mhz and peer.fps and round(peer.clock_mhz * 1e6 / peer.fps)
    rate = f"{'> ' if peer.more_than else ''}{number(peer.fps)}"
    return [
        peer.tool, str(peer.bits), peer.device, number(peer.clock_mhz), rate, number(per_frame),
        number(peer.luts), number(peer.dsp), peer.source, peer.read,
    ]  # fmt: skip


def number(value: float | None) -> str:
    """With separators, or a dash for what is not known."""
    return ABSENT if value is None else f"{value:,}"


HEADER = f"""# ResNet8 beside other generators

`{COMMAND}` writes this page. The network is the image classifier of MLPerf Tiny: 32x32 pixels, a
convolution to 16 channels, three residual stacks of 16, 32 and 64 channels, the average over the
map, ten logits; 12.5 million multiplications a frame. Its weights are random: a design's size and
speed do not depend on their values, and no accuracy is claimed. {ABSENT} is what was not found or
not run.
"""
NOTES = """
The clock is the one asked of place and route, which has not been run on these designs, and LUTs,
DSPs and block RAMs are what `intaglio build` estimates before synthesis (4-input LUTs and 18-kbit
RAMs for ECP5, 36-kbit RAMs for the Zynq 7020, whose 6-input LUTs the estimate counts like 4-input
ones). Frames/s is the clock over the cycles a frame. Cycles are predicted by the schedule; the last
three columns are of random frames through the RTL, compiled by Verilator: output integers that
differ from the simulator's, and the frame interval and first latency that were counted. At 4 bits
the multipliers are made of LUTs.
"""
OTHERS = """
"summary" is of the abstract of the source named; "notes" are a third party's notes on it. The
tables of none were seen. All are other devices at other clocks: compare cycles a frame where the
clock is known. The resources of the NN2FPGA and FINN designs were not found, nor any figure of
hls4ml or fpgaConvNet for this network; the tables of arXiv:2206.11791 (hls4ml and FINN in MLPerf
Tiny) were not read.
"""

if __name__ == "__main__":
    main()
