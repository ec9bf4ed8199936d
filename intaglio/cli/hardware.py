"""Commands on hardware: build, verify, bitstream; and the demo."""

from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from intaglio.cli.choices import completing
from intaglio.cli.options import (
    GATES_HELP,
    BoardOption,
    BuildArgument,
    BuildOutput,
    FolderOutput,
    JsonOption,
    LimitOption,
    ProgramArgument,
    ResizeOption,
    SeedOption,
    SomeImagesOption,
)
from intaglio.cli.results import WAVE, XML, ForceOption, build_source, pictures, settle
from intaglio.cli.shared import (
    command,
    console,
    image_sources,
    keep_record,
    show,
    step_log,
    write_json,
)
from intaglio.codegen.area.boards import BOARDS, DEFAULT, baud_of
from intaglio.codegen.area.devices import DEVICES
from intaglio.errors import BuildError, DataError
from intaglio.system.disk import write_text
from intaglio.system.places import Result
from intaglio.system.steps import RECORD

COLUMNS = {
    "name": "layer", "op": "op", "pe": "PE", "simd": "SIMD", "pixels": "pixels",
    "cycles": "cycles", "multipliers": "multipliers", "rom_bits": "ROM bits",
    "fifo_depths": "FIFOs",
}  # fmt: skip


class SimulatorName(StrEnum):
    """The RTL simulator."""

    VERILATOR = "verilator"
    ICARUS = "icarus"


class Cycles(StrEnum):
    """What cycles other than predicted are."""

    PREDICTED = "predicted"
    IGNORE = "ignore"


class LineKind(StrEnum):
    """What leads to a board."""

    UART = "uart"
    SPI = "spi"


def default_clocks() -> str:
    """What `--clock` is by default."""
    usual = DEVICES[DEFAULT].clock_mhz
    others = [f"{d.clock_mhz:g} on {d.name}" for d in DEVICES.values() if d.clock_mhz != usual]
    return ", ".join([f"{usual:g}", *others])


def line_sentence(manifest: Mapping[str, Any], board: str) -> str:
    """What the serial line of a board carries."""
    from intaglio.chip.protocol import beats_bytes, line_rate

    found = BOARDS[board]
    baud, size = baud_of(found, manifest["clock_mhz"]), beats_bytes(manifest["input"])
    return (
        f"The serial line of the {found.title} ({baud:,} baud) carries at most"
        f" {line_rate(manifest, baud / 10):.1f} frames/s of {size:,} bytes."
    )


@command()
def build(
    model: ProgramArgument,
    output: BuildOutput,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help=f"Device; default: the board's, or else {DEFAULT}.",
            autocompletion=completing("--target"),
        ),
    ] = None,
    board: BoardOption = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second wanted.")] = None,
    multipliers: Annotated[
        int | None, typer.Option("--multipliers", help="Multipliers at most.")
    ] = None,
    share: Annotated[
        bool | None,
        typer.Option(
            "--share/--no-share",
            help="Convolutions of equal shape on one engine where that is cheaper, or never;"
            " default: where no other design fits.",
        ),
    ] = None,
    clock: Annotated[
        float | None, typer.Option("--clock", help=f"MHz; default: {default_clocks()}.")
    ] = None,
    images: SomeImagesOption = None,
    limit: LimitOption = None,
    resize: ResizeOption = False,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Write Verilog, ROMs, constraints, scripts and a self-checking bench for a Program.

    The images are the bench's frames; without them they are random. A folder with a bitstream, a
    simulation or files of your own in it is kept, unless --force is given.
    """
    steps = step_log("writing")
    from intaglio.codegen.bundle import build as make
    from intaglio.codegen.folder.manifest import BUILD
    from intaglio.file import load

    result = Result("-o", output, BUILD, folder=True)
    settle([model, *pictures(images)], result, json_file=json_file, force=force)
    program = load(model)
    pixels = None
    files = image_sources(images, limit)
    if files:
        from intaglio.models import images_for

        pixels = images_for(program, files, resize=resize)
    bundle = make(
        program, target=target, fps=fps, lanes=multipliers, share=share, clock_mhz=clock,
        board=board, images=pixels, steps=steps,
    )  # fmt: skip
    with steps.step("writing"):
        bundle.write(output, force=force)
    steps.write(output / RECORD)
    keep_record(output, "build", {"seconds": sum(took.seconds for took in steps.took)})
    report = bundle.report()
    rows = ([cell(row[key]) for key in COLUMNS] for row in report["layers"])
    names = ("layer", "FIFOs")
    title = f"{model} on {board or report['target']}"
    show(title, [*COLUMNS.values()], rows, left=("layer", "op"), names=names)
    console.print(bundle.summary())
    if clock is None:
        console.print(f"The clock is {report['target']}'s default; --clock sets another.")
    if board is not None:
        console.print(line_sentence(bundle.manifest, board))
    following = "verify" if board is None else "bitstream"
    console.print(f"wrote {output}; next: intaglio {following} {output}")
    write_json(json_file, report | {"steps": steps.to_json()})


def cell(value: object) -> str:
    """A table cell: lists joined, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


@command()
def verify(
    folder: BuildArgument,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="In all; default: 12, or more where more are stored."),
    ] = None,
    stalls: Annotated[
        bool, typer.Option("--stalls", help="Random pauses on every port, and nothing else.")
    ] = False,
    seed: SeedOption = 1,
    cycles: Annotated[
        Cycles,
        typer.Option("--cycles", help="Whether cycles other than predicted are a failure."),
    ] = Cycles.PREDICTED,
    simulator: Annotated[
        SimulatorName, typer.Option("--simulator", help="RTL simulator.")
    ] = SimulatorName.VERILATOR,
    inside: Annotated[
        bool, typer.Option("--inside", help="Compare every stream between blocks, not only ports.")
    ] = False,
    gates: Annotated[bool, typer.Option("--gates", help=GATES_HELP)] = False,
    cells: Annotated[
        str | None,
        typer.Option("--cells", help="Models of --gates.", autocompletion=completing("--cells")),
    ] = None,
    wave: Annotated[
        Path | None,
        typer.Option("--wave", help="Waveform of the run: FILE.vcd, or with Icarus FILE.fst."),
    ] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Every judgement as a test of a JUnit XML file.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Run the RTL in cocotb on whole frames. Exit 1 where a beat, a cycle or the protocol is wrong.

    Most frames meet pauses of many kinds on all ports; then comes a reset in mid-frame, and frames
    without pauses, whose cycles must be the predicted ones. Where something is wrong, or with
    --inside, every stream between blocks is compared as well.
    """
    if cells is not None and not gates:
        raise DataError("--cells must go with --gates, whose netlist is made of them.")
    if gates and (wave or junit_file or inside):
        other = "--wave" if wave else "--junit" if junit_file else "--inside"
        raise DataError(f"{other} must go without --gates.")
    if wave is not None:
        from intaglio.codegen.running.wave import check_wave

        check_wave(wave, simulator.value)
    steps = step_log()
    results = [Result("--wave", wave, WAVE)] if wave else []
    results += [Result("--junit", junit_file, XML)] if junit_file else []
    settle([build_source(folder)], *results, json_file=json_file)
    if gates:
        from intaglio.chip.gates import verify_gates

        count = 1 if frames is None else frames
        found = verify_gates(folder, frames=count, stalls=stalls, cells=cells, steps=steps)
        steps.write(folder / "sim" / RECORD)
        keep_record(folder, "gates", found.to_json())
        console.print(found.sentence())
        write_json(json_file, found.to_json() | {"steps": steps.to_json()})
        if found.mismatches:
            raise typer.Exit(1)
        return
    from intaglio.codegen.running.verify import verify as check

    result = check(
        folder, frames=frames, stalls=stalls, simulator=simulator.value, seed=seed,
        cycles=cycles.value, inside="always" if inside else "fault", wave=wave, steps=steps,
    )  # fmt: skip
    steps.write(folder / "sim" / RECORD)
    keep_record(folder, f"verify{'-stalls' * stalls}", result.to_json())
    console.print(result.sentence())
    if result.where():
        console.print(result.where())
    if result.coverage is not None:
        console.print(result.coverage.sentence())
    console.print(result.state())
    write_json(json_file, result.to_json() | {"steps": steps.to_json()})
    if junit_file is not None:
        from intaglio.codegen.running.junit import junit

        write_text(junit_file, junit(result, f"intaglio verify {folder.resolve().name}"))
    if not result.passed:
        raise typer.Exit(1)


@command()
def bitstream(
    folder: BuildArgument,
    seeds: Annotated[int, typer.Option("--seeds", help="Routings; the fastest is kept.")] = 3,
    gates: Annotated[bool | None, typer.Option("--gates/--no-gates", help=GATES_HELP)] = None,
    board: BoardOption = None,
    baud: Annotated[
        int | None,
        typer.Option("--baud", help="Of a board's serial line; default: the fastest of its chip."),
    ] = None,
    line: Annotated[
        LineKind, typer.Option("--line", help="To the board: serial, or SPI where it has one.")
    ] = LineKind.UART,
    load: Annotated[
        bool, typer.Option("--load", help="Onto the board that is plugged in.")
    ] = False,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Synthesise, place, route and pack with open tools. Exit 1 when the clock is missed.

    Without --gates or --no-gates the netlist of a small design is simulated first. An earlier
    bitstream is kept, or with --force replaced once the new one is complete.
    """
    steps = step_log()
    from intaglio.chip.bitstream import bitstream as make
    from intaglio.chip.bitstream import board_of
    from intaglio.chip.loading import how_to_load, load_board
    from intaglio.chip.synthesis import FOLDER

    settle([build_source(folder)], json_file=json_file)
    chosen = board_of(folder, board)
    if load and chosen is None:
        raise BuildError("--load must go with a board; build with --board, or name one here.")
    result = make(
        folder, seeds=seeds, gate=gates, board=board, baud=baud, line=line.value, force=force,
        steps=steps,
    )  # fmt: skip
    keep_record(folder, FOLDER, result.to_json())
    console.print(result.sentence())
    write_json(json_file, result.to_json() | {"steps": steps.to_json()})
    if result.files and chosen is not None:
        file = folder / result.files[0]
        if load:
            console.print(f"loaded by {load_board(chosen, file)}")
        else:
            console.print(f"next: {how_to_load(chosen, file)}")
        console.print(f"then: python {folder / FOLDER}/host.py --port {chosen.port}")
    if not (result.met and result.equal):
        raise typer.Exit(1)


@command()
def demo(
    output: FolderOutput = Path("demo"),
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """The whole story on the bundled detector: data, mAP, integers, RTL, proof, pictures."""
    for module in ("torch", "amaranth"):  # of extras, looked for before anything is written
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    from intaglio.demo import DEMO, run_demo

    settle([], Result("-o", output, DEMO, folder=True), json_file=json_file, force=force)
    numbers = run_demo(output, console.print)
    write_json(json_file, numbers)
    if not numbers["passed"]:
        raise typer.Exit(1)
