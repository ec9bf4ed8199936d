"""ResNet8 of MLPerf Tiny beside other generators.

python benchmarks/codegen/resnet8.py [--rtl FRAMES] [--file pretrainedResnet_quant.tflite]

The network has the CIFAR-10 shape and random weights, so that nobody's accuracy is claimed: a
design's size and speed do not depend on the values of its weights. Each row quantises it, builds
it for a device, and runs random frames through the RTL, compiled by Verilator, and through the
simulator. With --file the row is of the benchmark's own trained network, imported from its .tflite
file (mlcommons/tiny), in that file's integers. Then yosys counts its cells, and for ECP5 nextpnr
places and routes it (--seeds 0: neither, minutes each). Written to results/hw.json as "resnet8",
and to docs/resnet8.md, step by step: what is there of the same design and not measured again is
kept.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hw_json import HW_JSON, put
from resnet8_peers import PEERS, Peer
from timing import netlist
from torch import nn

from intaglio.chip.bitstream import PACKED, place_and_route
from intaglio.chip.shell import SHELL
from intaglio.chip.synthesis import FOLDER, synthesise
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.codegen.structure.ports import random_frames
from intaglio.detect.networks.resnet import BasicBlock
from intaglio.exchange.from_tflite.importer import imported
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator
from intaglio.system.disk import write_text

PAGE = Path(__file__).parent.parent.parent / "docs" / "resnet8.md"
CLOCK_MHZ = 75.0  # asked for; place and route has to confirm it
TARGETS = ("ecp5-85k", "xc7z020")
# Multipliers at most: about as many as the device has hard ones.
LANES = {
    (8, "ecp5-85k"): 160,
    (8, "xc7z020"): 220,
    (4, "ecp5-85k"): 160,
    (4, "xc7z020"): 220,
}
ABSENT = "\N{EN DASH}"
COMMAND = "python benchmarks/codegen/resnet8.py"


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
    """One build. Resources are yosys' count where `synthesised`, else `build`'s estimate; fmax_mhz
    is that of the best seed of nextpnr (None: not routed); frames run through the RTL, 0: not run.
    """

    bits: int
    target: str
    clock_mhz: float
    cycles_per_frame: int
    latency_cycles: int
    macs: int
    multipliers: int
    luts: int
    dsp: float
    rams: float
    synthesised: bool = False
    fmax_mhz: float | None = None
    seeds: int = 0
    rtl_frames: int = 0
    mismatches: int | None = None
    measured_cycles_per_frame: int | None = None
    measured_latency_cycles: int | None = None
    weights: str = "random"

    @property
    def reached_mhz(self) -> float:
        """The clock asked for, or what was reached where that is less."""
        return self.clock_mhz if self.fmax_mhz is None else min(self.clock_mhz, self.fmax_mhz)

    @property
    def fps(self) -> float:
        """Frames a second at that clock."""
        return self.reached_mhz * 1e6 / self.cycles_per_frame

    def same(self, other: "Row") -> bool:
        """Whether both are of one design."""
        keys = ("bits", "weights", "target", "clock_mhz", "cycles_per_frame", "latency_cycles",
                "multipliers")  # fmt: skip
        return all(getattr(self, key) == getattr(other, key) for key in keys)


def main() -> None:
    """Build, run, synthesise, route, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtl", type=int, default=4, metavar="FRAMES", help="0: no RTL run.")
    parser.add_argument("--seeds", type=int, default=1, help="0: no synthesis.")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4], choices=[8, 4])
    parser.add_argument("--target", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--lanes", type=int, help="Multipliers at most; default: as the device.")
    parser.add_argument("--folder", type=Path, help="Where compiled designs are kept.")
    parser.add_argument("--file", type=Path, metavar="FILE.tflite", help="The trained network.")
    options = parser.parse_args()
    if options.file is not None:
        program = imported(options.file).program
        for target in options.target:
            measure(program, 8, target, options, "trained")
        return
    images = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    for bits in options.bits:
        config = QuantConfig(wbits=bits, abits=bits, first_wbits=bits, method="mse")
        program = quantize(resnet8(), images, config).program
        for target in options.target:
            measure(program, bits, target, options, "random")


def measure(
    program: Program, bits: int, target: str, options: argparse.Namespace, weights: str
) -> None:
    """One row, written step by step."""
    lanes = options.lanes or LANES[bits, target]
    bundle = build(program, target=target, lanes=lanes, clock_mhz=CLOCK_MHZ)
    row = kept(replace(estimated(bundle, program, bits), weights=weights))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if options.rtl:
            row = replace(row, **played(bundle, program, options.rtl, folder))
            write(row)
        if options.seeds:
            place = folder / f"resnet8-{weights}-{bits}-{target}"
            row = replace(row, **synthesised(bundle, place))
            write(row)
        if options.seeds and device(target).family in PACKED:
            row = replace(row, **routed(place, target, options.seeds))
    write(row)
    print(row, flush=True)


def kept(row: Row) -> Row:
    """What an earlier run found of the same design, else the row."""
    return next((old for old in rows() if old.same(row)), row)


def rows() -> list[Row]:
    """Those there are."""
    found = json.loads(HW_JSON.read_text(encoding="utf-8")) if HW_JSON.exists() else {}
    return [Row(**{k: v for k, v in row.items() if k != "fps"}) for row in found.get("resnet8", ())]


def write(row: Row) -> None:
    """The row in the place of that of its bits, weights and target, and the page."""

    def place(r: Row) -> tuple[int, str, str]:
        return -r.bits, r.weights, r.target

    every = sorted([*(old for old in rows() if place(old) != place(row)), row], key=place)
    put("resnet8", [{**asdict(r), "fps": round(r.fps, 1)} for r in every])
    write_text(PAGE, page(every))


def estimated(bundle: Bundle, program: Program, bits: int) -> Row:
    """What the build says of itself."""
    facts, resources = bundle.manifest, bundle.manifest["resources"]
    return Row(
        bits=bits,
        target=facts["target"],
        clock_mhz=CLOCK_MHZ,
        cycles_per_frame=facts["cycles_per_frame"],
        latency_cycles=facts["latency_cycles"],
        macs=sum(program.macs().values()),
        multipliers=facts["multipliers"],
        luts=resources["luts"],
        dsp=resources["multipliers"],
        rams=resources["rams"],
    )


def played(bundle: Bundle, program: Program, frames: int, folder: Path) -> dict[str, Any]:
    """Random frames through the RTL and the simulator."""
    (x,) = program.inputs
    stimulus = random_frames(x.type, x.shape, frames)
    found = bundle.compile(folder).play(stimulus, threads=1)
    expected = Simulator(program)(stimulus)
    return {
        "rtl_frames": frames,
        "mismatches": sum(int((expected[n] != found.outputs[n]).sum()) for n in expected),
        "measured_cycles_per_frame": found.cycles.interval,
        "measured_latency_cycles": found.cycles.latency,
    }


def synthesised(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """yosys' count of the cells."""
    manifest = folder / "manifest.json"
    if not manifest.exists() or manifest.read_bytes() != bundle.files["manifest.json"]:
        bundle.write(folder, force=True)  # what is there is of another design
    chip = device(bundle.manifest["target"])
    if chip.family in PACKED:
        found = netlist(folder)
    else:
        (folder / FOLDER).mkdir(exist_ok=True)
        found = synthesise(folder, chip, bundle.manifest["name"], SOURCES)
    return {
        "synthesised": True,
        "luts": int(found["luts"]),
        "dsp": found["multipliers"],
        "rams": found["rams"],
    }


def routed(folder: Path, target: str, seeds: int) -> dict[str, Any]:
    """The highest Fmax of the seeds."""
    chip = device(target)
    found = [place_and_route(folder, chip, CLOCK_MHZ, n + 1, SHELL) for n in range(seeds)]
    return {"fmax_mhz": max(one.fmax_mhz for one in found), "seeds": seeds}


def page(rows: Sequence[Row]) -> str:
    """docs/resnet8.md."""
    ours = (
        "bits", "weights", "target", "multiplications a cycle", "clock, MHz", "Fmax, MHz",
        "frames/s", "cycles a frame", "latency, µs", "LUTs", "DSPs", "block RAMs", "counted by",
        "RTL frames", "integers that differ", "cycles measured",
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
    latency = row.latency_cycles / row.reached_mhz
    return [
        str(row.bits), row.weights, f"`{row.target}`", number(row.multipliers),
        f"{row.clock_mhz:g}", number(row.fmax_mhz), number(round(row.fps)),
        number(row.cycles_per_frame),
        f"{latency:,.0f} ({row.latency_cycles:,} cycles)", number(row.luts), f"{row.dsp:g}",
        f"{row.rams:g}", "yosys" if row.synthesised else "estimate", number(row.rtl_frames),
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
map, ten logits; 12.5 million multiplications a frame. "random" weights are ours, quantised in
intaglio's arithmetic; "trained" is the benchmark's own `pretrainedResnet_quant.tflite`
(mlcommons/tiny, `--file`), in that file's integers, LiteRT's reference kernels to the bit; for
`ecp5-85k` with `--lanes 48`, since with 80 nextpnr had not routed the design in 39 minutes.
{ABSENT} is what was not found or not run.
"""
NOTES = f"""
The foldings are the fastest with at most about as many multiplications a cycle as the device has
hard multipliers, unless a row shows others; which of them take one is the synthesis' choice.
LUTs (4 inputs for ECP5, 6 for the Zynq 7020), DSPs and block RAMs (18 kbit for ECP5, 36 kbit for
the Zynq) are counted by yosys in the synthesised netlist (`synth_ecp5`, of the design behind its
link of bytes; `synth_xilinx`, of the design alone) or, where that was not run, estimated by
`intaglio build`. Fmax is what nextpnr reached at speed grade 6, best of the seeds; {ABSENT}: not
placed and routed, which for the Zynq takes the vendor's tools. Frames/s is the clock asked for, or
Fmax where that is less, over the cycles a frame, which the schedule predicts; the last three
columns are of random frames through the RTL, compiled by Verilator: output integers that differ
from the simulator's, and the frame interval and first latency that were counted.
"""
OTHERS = """
"summary" is of the abstract of the source named; "notes" are a third party's notes on it; "log" is
the submitter's own result file (`results/pynq-z2/ic/.../performance/results.txt`), a whole
measurement over the board's bus, of another network of their own design for the same task and the
same images: hls4ml's RN07 is a smaller convolutional network with 8-bit weights and 9-bit
activations, FINN's CNV-W1A1 a larger binary one. All are other clocks, and but for the PYNQ-Z2,
whose chip is the Zynq 7020, other devices: compare cycles a frame where the clock is known. The
resources of the NN2FPGA, FINN and hls4ml designs were not found in a source that could be read (the
tables of arXiv:2206.11791 could not), nor any figure of fpgaConvNet for this network.
"""

if __name__ == "__main__":
    main()
