"""The bitstream: synthesis, place and route over several seeds, the clock judged, packing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intaglio.chip import boards
from intaglio.chip.aside import made_aside
from intaglio.chip.boards import LINE, LineName
from intaglio.chip.carried import host_files
from intaglio.chip.gates import SMALL, check_board, check_shell
from intaglio.chip.protocol import line_bytes, line_rate
from intaglio.chip.shell import (
    BOARD,
    SHELL,
    BoardTop,
    Core,
    board_verilog,
    shell_pins,
    shell_verilog,
)
from intaglio.chip.synthesis import CELLS, FOLDER, synthesise
from intaglio.chip.toolchain import run_tool, written_json
from intaglio.codegen.area.boards import Board, Place, baud_of, place
from intaglio.codegen.area.boards import board as find_board
from intaglio.codegen.area.clocks import divisor
from intaglio.codegen.area.devices import Device, device
from intaglio.codegen.folder.manifest import read_manifest
from intaglio.codegen.folder.scripts import SOURCES, vendor_script
from intaglio.cosim.port import Port
from intaglio.errors import BuildError, ToolError
from intaglio.system.disk import empty_folder, write_text
from intaglio.system.html import cards, snippet, tag, text_of
from intaglio.system.steps import RECORD, Steps

MOST_SEEDS = 1000  # routings, of minutes each
PACKED = {"ecp5": "bit", "ice40": "bin", "gowin": "fs", "gatemate": "bit"}
PIN_FILE = {"ecp5": "lpf", "ice40": "pcf", "gowin": "cst"}
PACKAGES = {"ecp5": "CABGA381", "ice40": "sg48"}


@dataclass(frozen=True)
class Routed:
    """One seed's place and route: the slowest clock it reaches."""

    seed: int
    fmax_mhz: float
    seconds: float


@dataclass(frozen=True)
class BitstreamResult:
    """target, board (None: bytes on pins), clock_mhz asked for (on a board: made by its PLL), what
    every seed reached, whether the best of them meets it; resources as synthesised; the packed
    file, none where the clock is missed or the netlist computes something else; `gate` the
    comparison of the netlist with the simulator (None when it was not asked for); `line_fps` the
    frames/s that the board's serial line carries."""

    target: str
    board: str | None
    clock_mhz: float
    seeds: tuple[Routed, ...]
    resources: Mapping[str, float]
    cycles_per_frame: int
    files: tuple[str, ...]
    gate: Mapping[str, Any] | None
    seconds: float
    line_fps: float | None = None

    @property
    def best(self) -> Routed:
        """The seed with the highest Fmax."""
        return max(self.seeds, key=lambda routed: routed.fmax_mhz)

    @property
    def met(self) -> bool:
        """Whether the best seed is as fast as the clock."""
        return bool(self.seeds) and self.best.fmax_mhz >= self.clock_mhz

    @property
    def equal(self) -> bool:
        """Whether the netlist agreed with the simulator, where it was simulated."""
        return self.gate is None or self.gate["mismatches"] == 0

    @property
    def fps(self) -> float:
        """Frames a second at the clock asked for."""
        return self.clock_mhz * 1e6 / self.cycles_per_frame

    def to_json(self) -> dict[str, Any]:
        """Every field, and met, fps and the best Fmax."""
        return {
            **asdict(self),
            "met": self.met,
            "fps": self.fps,
            "fmax_mhz": self.best.fmax_mhz if self.seeds else None,
        }

    def _repr_html_(self) -> str:
        r = self.resources
        facts = {
            "target": self.target, "board": self.board or "-", "clock": f"{self.clock_mhz:g} MHz",
            "Fmax": f"{self.best.fmax_mhz:.1f} MHz" if self.seeds else "-",
            "frames/s": f"{self.fps:.1f}", "LUTs": f"{r['luts']:,.0f}",
            "flip-flops": f"{r['ffs']:,.0f}", "block RAMs": f"{r['rams']:g}",
            "multipliers": f"{r['multipliers']:g}",
        }  # fmt: skip
        return snippet("Bitstream", cards(facts), tag("p", text_of(self.sentence())))

    def sentence(self) -> str:
        """The result in one sentence."""
        if not self.equal and self.gate is not None:
            return (
                f"The netlist must compute what the simulator does, but {self.gate['mismatches']}"
                f" of its beats differ; there is no bitstream."
            )
        r, reached = self.resources, ", ".join(f"{s.fmax_mhz:.1f}" for s in self.seeds)
        if not self.met:
            return (
                f"The clock must be at most {self.best.fmax_mhz:.1f} MHz, the best of"
                f" {len(self.seeds)} seeds ({reached}), not {self.clock_mhz:g} MHz; build again"
                " with a lower --clock, or try more --seeds. There is no bitstream."
            )
        return (
            f"{self.files[0]}: {self.clock_mhz:g} MHz met, Fmax {reached} MHz over"
            f" {len(self.seeds)} seeds; {self.rates()}; {r['luts']:,.0f} LUTs,"
            f" {r['ffs']:,.0f} flip-flops, {r['rams']:g} block RAMs, {r['multipliers']:g}"
            f" multipliers; {self.seconds:.0f} s"
        )

    def rates(self) -> str:
        """Frames a second of the device, and of the line to it."""
        if self.line_fps is None:
            return f"{self.fps:.1f} frames/s"
        return (
            f"{self.fps:.1f} frames/s on the device, at most {self.line_fps:.1f} frames/s over the"
            " serial line"
        )


@dataclass(frozen=True)
class Surrounding:
    """The module that is placed and routed, the clock it gets, and the files that it is made of,
    by their name in the folder `bitstream`; `line_fps` as of the result."""

    top: str
    clock_mhz: float
    files: Mapping[str, str]
    line_fps: float | None = None


@made_aside
def bitstream(
    folder: str | Path,
    *,
    seeds: int = 3,
    gate: bool | None = None,
    board: str | None = None,
    baud: int | None = None,
    line: LineName = "uart",
    force: bool = False,
    steps: Steps | None = None,
) -> BitstreamResult:
    """Make the bitstream of a build, in its folder `bitstream`, which appears when all is done.

    The design's streams end in a link of bytes: on 22 pins, or on the serial line of a board, with
    the program `host.py` beside the bitstream. Every seed is routed, and the one with the highest
    Fmax is packed, unless that misses the build's clock.

    gate   simulate the netlist first and refuse to go on when it differs; None: small ones.
    board  a name from `boards.BOARDS`, whose PLL makes the build's clock; None: the build's own.
    baud   bits a second of the board's serial line; None: `boards.baud_of`.
    line   "uart", or "spi" where the board's wiring has one.
    force  replace a bitstream that is there; it is refused otherwise.
    steps  are told how far it is.

    Raises BuildError for a target without open tools, a board without that target or a clock that
    the board cannot make, ToolError for a tool that is missing or fails.
    """
    started = time.perf_counter()
    folder = Path(folder)
    manifest = read_manifest(folder)
    chip = device(manifest["target"])
    if not 1 <= seeds <= MOST_SEEDS:
        raise BuildError(f"seeds must be 1 to {MOST_SEEDS:,}, not {seeds:,}.")
    chosen = board_of(folder, board)
    board = None if chosen is None else chosen.name
    around = surrounding(manifest, board, baud, line)
    top, clock_mhz = around.top, around.clock_mhz
    steps = steps or Steps()
    routings = [f"seed {seed}, place and route" for seed in range(1, seeds + 1)]
    steps.plan("synthesis", "netlist simulated", *routings, "packing")
    with steps.step("synthesis"):
        resources = synthesise_within(folder, around, steps)
    with steps.step("netlist simulated"):
        checked = check_netlist(folder, manifest, resources, gate, top, steps)
    routed: list[Routed] = []
    files: tuple[str, ...] = ()
    if checked is None or checked["mismatches"] == 0:
        for seed, routing in enumerate(routings, 1):
            with steps.step(routing):
                routed.append(place_and_route(folder, chip, clock_mhz, seed, top, steps))
        best = max(routed, key=lambda r: r.fmax_mhz)
        if best.fmax_mhz >= clock_mhz:
            with steps.step("packing"):
                files = (pack(folder, chip, best.seed, top),)
    steps.write(folder / FOLDER / RECORD)
    return BitstreamResult(
        target=chip.name,
        board=board,
        clock_mhz=clock_mhz,
        seeds=tuple(routed),
        resources=resources,
        cycles_per_frame=manifest["cycles_per_frame"],
        files=files,
        gate=checked,
        seconds=round(time.perf_counter() - started, 1),
        line_fps=around.line_fps,
    )


def board_of(folder: str | Path, board: str | None) -> Board | None:
    """The board named, or else that of the build. Raises BuildError."""
    name = board or read_manifest(Path(folder)).get("board")
    return None if name is None else find_board(name)


def core_of(manifest: Mapping[str, Any]) -> Core:
    """The build's top behind a link of bytes."""
    sinks = [Port.from_json(entry) for entry in manifest["outputs"]]
    return Core(name=manifest["name"], source=Port.from_json(manifest["input"]), sinks=sinks)


def surrounding(
    manifest: Mapping[str, Any], board: str | None, baud: int | None, line: LineName = "uart"
) -> Surrounding:
    """Pins or a board around a build. Raises BuildError where that cannot be."""
    chip = device(manifest["target"])
    if chip.family not in PACKED:
        raise BuildError(
            f"The target must be an ECP5, iCE40, Gowin or GateMate device for the open tools, not"
            f" {chip.name}; use {vendor_script(chip)}, or build again with another --target."
        )
    if board is not None:
        return on_board(manifest, chip, board, baud, line)
    clock_mhz = manifest["clock_mhz"]
    files = {f"{SHELL}.v": shell_verilog(core_of(manifest)), **pin_files(chip, clock_mhz)}
    return Surrounding(SHELL, clock_mhz, files)


def on_board(
    manifest: Mapping[str, Any], chip: Device, name: str, baud: int | None, line: LineName
) -> Surrounding:
    """The board's top, its constraints, and the host program with what it has to know."""
    where = place(chip.name, manifest["clock_mhz"], name)
    assert where.board is not None
    clock_mhz = where.clock_mhz
    facts: dict[str, Any] = {"board": name, "line": line, "clock_mhz": clock_mhz}
    if line == "spi":
        facts |= spi_facts(where, baud)
    else:
        rate = baud or baud_of(where.board, clock_mhz)
        facts |= {"baud": rate, "cycles_per_bit": divisor(clock_mhz * 1e6, rate)}
    wires = boards.wiring(where.board, chip.name, line)
    top = BoardTop(
        core_of(manifest),
        clock_mhz=clock_mhz,
        cycles=facts.get("cycles_per_bit"),
        loop=where.loop,
        high=[f"{resource}_{part}" for resource, part in where.board.high],
    )
    files = {
        f"{BOARD}.v": board_verilog(top),
        f"{BOARD}.{PIN_FILE[chip.family]}": boards.constraints(chip.family, wires),
        LINE: json.dumps(facts) + "\n",
        **host_files(),
    }
    return Surrounding(BOARD, clock_mhz, files, line_rate(manifest, line_bytes(facts)))


def spi_facts(where: Place, baud: int | None) -> dict[str, Any]:
    """Of the SPI line. Raises BuildError where the board has none, or its clock is too fast."""
    assert where.board is not None
    spi = where.board.spi
    if spi is None:
        raise BuildError(f"--line must be uart on the {where.board.title}, which has no SPI.")
    if baud is not None:
        raise BuildError("--baud must go with --line uart.")
    hertz = min(spi.hertz, 1e6 * where.clock_mhz)
    return {"hertz": hertz, "url": spi.url}


def synthesise_within(
    folder: Path, around: Surrounding, steps: Steps | None = None
) -> dict[str, float]:
    """Write the surrounding into an empty bitstream folder, and synthesise it with the build."""
    work = empty_folder(folder / FOLDER)
    for name, text in around.files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(work / name, text)
    chip = device(read_manifest(folder)["target"])
    sources = (*SOURCES, f"{FOLDER}/{around.top}.v")
    return synthesise(folder, chip, around.top, sources, steps=steps)


def check_netlist(
    folder: Path,
    manifest: Mapping[str, Any],
    resources: Mapping[str, float],
    gate: bool | None,
    top: str,
    steps: Steps,
) -> Mapping[str, Any] | None:
    """The netlist of the shell or the board simulated on the stored frames, or None where it is
    not."""
    family = device(manifest["target"]).family
    if gate is None:
        gate = family in CELLS and resources["luts"] <= SMALL
    if gate and family not in CELLS:
        raise BuildError(
            f"--gates must be left out for {manifest['target']}, whose cells have no models here;"
            " `intaglio verify --gates --cells generic` simulates a netlist of plain gates."
        )
    if not gate:
        steps.tell("not asked for, as it is large or its cells have no models")
        return None
    check = check_shell if top == SHELL else check_board
    return check(folder, steps=steps).to_json()


def pin_files(chip: Device, clock_mhz: float) -> dict[str, str]:
    """The clock of ECP5; for Gowin, whose router wants it, a place for every pin. iCE40 takes the
    clock from the command line."""
    if chip.family == "ecp5":
        return {f"{SHELL}.lpf": f'FREQUENCY PORT "clk" {clock_mhz:g} MHZ;\n'}
    if chip.family == "gowin":
        pins = zip(shell_pins(), chip.pins.split(), strict=True)
        return {f"{SHELL}.cst": "".join(f'IO_LOC "{n}" {p};\n' for n, p in pins)}
    return {}


def place_and_route(
    folder: Path, chip: Device, clock_mhz: float, seed: int, top: str, steps: Steps | None = None
) -> Routed:
    """nextpnr with one seed: bitstream/seed{N}.report.json and the routed design."""
    started = time.perf_counter()
    base = f"{FOLDER}/seed{seed}"
    common = [
        "--json", f"{FOLDER}/{top}.json", "--freq", f"{clock_mhz:g}", "--seed", str(seed),
        "--report", f"{base}.report.json", "--timing-allow-fail",
    ]  # fmt: skip
    match chip.family:
        case "ecp5":
            tool, own = "nextpnr-ecp5", [
                f"--{chip.part}", "--package", PACKAGES["ecp5"], "--lpf", f"{FOLDER}/{top}.lpf",
                "--lpf-allow-unconstrained", "--textcfg", f"{base}.config",
            ]  # fmt: skip
        case "ice40":
            placed = ["--pcf", f"{FOLDER}/{top}.pcf"] if top == BOARD else []
            tool, own = "nextpnr-ice40", [
                f"--{chip.part}", "--package", PACKAGES["ice40"], *placed,
                "--pcf-allow-unconstrained", "--asc", f"{base}.asc",
                "--write", f"{base}.routed.json",
            ]  # fmt: skip
        case "gatemate":
            tool, own = "nextpnr-gatemate", [
                "--device", chip.part, "--vopt", f"out={base}.txt",
                "--vopt", "allow-unconstrained",
            ]  # fmt: skip
        case _:
            tool, own = "nextpnr-himbaechel", [
                "--device", chip.part, "--vopt", f"family={chip.chipdb}",
                "--vopt", f"cst={FOLDER}/{top}.cst", "--write", f"{base}.pnr.json",
            ]  # fmt: skip
    run_tool(tool, [*own, *common], folder, f"{base}.log", steps)
    return Routed(
        seed,
        fmax(folder / f"{base}.report.json"),
        round(time.perf_counter() - started, 1),
    )


def fmax(report: Path) -> float:
    """The Fmax of the slowest clock in nextpnr's report. Its own verdict is not looked at: it is
    about the frequency in a constraint file, not the one on the command line."""
    clocks = written_json("nextpnr", report)["fmax"]
    if not clocks:
        raise ToolError(f"{report} must name a clock, but nextpnr found none in the design.")
    return round(min(float(clock["achieved"]) for clock in clocks.values()), 2)


def pack(folder: Path, chip: Device, seed: int, top: str) -> str:
    """The routed design of a seed as a bitstream; returns its name, relative to the build."""
    base, made = f"{FOLDER}/seed{seed}", f"{FOLDER}/{top}.{PACKED[chip.family]}"
    part, log = f"{FOLDER}/part.{PACKED[chip.family]}", f"{FOLDER}/pack.log"
    match chip.family:
        case "ecp5":
            run_tool("ecppack", ["--compress", f"{base}.config", part], folder, log)
        case "ice40":
            run_tool("icepack", [f"{base}.asc", part], folder, log)
        case "gatemate":
            run_tool("gmpack", [f"{base}.txt", part], folder, log)
        case _:
            run_tool("gowin_pack", ["-d", chip.chipdb, "-o", part, f"{base}.pnr.json"], folder, log)
    if not (folder / part).is_file():
        raise ToolError(f"{made} must have been written; see {folder / log}.")
    os.replace(folder / part, folder / made)  # nobody loads half a bitstream
    return made
