"""Sends pictures to a board and draws the boxes that it finds; or plays a build's stored frames and
compares every beat that comes back.

    python BUILD/bitstream/host.py --port /dev/ttyUSB1 --images cat.jpg more/    boxes on pictures
    python BUILD/bitstream/host.py --port /dev/ttyUSB1 --camera 0                of a camera
    python BUILD/bitstream/host.py --port /dev/ttyUSB1                           the stored frames

`intaglio bitstream --board` puts it beside the bitstream, with the modules of intaglio that it
needs in a folder of that name. It stands alone: Python 3.11 and pyserial; NumPy and Pillow for
pictures; OpenCV for a camera. A break resets the board.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from intaglio.chip.protocol import Beat, Decoder, exchange, line_bytes, to_bytes
from intaglio.errors import IntaglioError

PATIENCE = 5.0  # seconds without a byte


def expected(path: Path) -> Iterator[tuple[int, int, int]]:
    """Lines `tlast tdata mask` of a stream's expected beats."""
    for line in path.read_text().splitlines():
        last, data, mask = (int(word, 16) for word in line.split())
        yield last, data, mask


def differences(beats: Sequence[Beat], wanted: Sequence[tuple[int, int, int]]) -> list[int]:
    """Numbers of the beats that are not the expected ones, which repeat."""
    wrong = []
    for n, (last, data) in enumerate(beats):
        want_last, want, mask = wanted[n % len(wanted)]
        if last != want_last or (data ^ want) & mask:
            wrong.append(n)
    return wrong


def run(
    line: Any,
    build: Path,
    frames: int = 0,
    patience: float = 5.0,
    say: Callable[[str], None] = print,
) -> tuple[int, int]:
    """Play frames (0: all stored) over an open line: how many beats came, how many were wrong.

    line  with the `send_break`, `reset_input_buffer`, `write` and `read` of a `serial.Serial`.
    """
    manifest = json.loads((build / "manifest.json").read_text())
    source, sinks = manifest["input"], manifest["outputs"]
    frames = frames or manifest["frames"]
    stored = (build / "bench/stimulus.hex").read_text().split()
    beats = [int(stored[k % len(stored)], 16) for k in range(frames * source["beats"])]
    decoder = Decoder([sink["data_width"] for sink in sinks])
    started = time.monotonic()
    line.send_break(0.01)  # resets the design
    line.reset_input_buffer()
    exchange(
        to_bytes(beats, source["data_width"]),
        decoder,
        [frames * sink["beats"] for sink in sinks],
        line.write,
        lambda: line.read(4096),
        patience,
    )
    seconds = time.monotonic() - started
    wrong = 0
    for sink, got in zip(sinks, decoder.beats, strict=True):
        stem = sink["name"].removeprefix("m_axis_")
        want = list(expected(build / "bench" / "expected" / f"{stem}.txt"))
        bad = differences(got[: frames * sink["beats"]], want)
        wrong += len(bad)
        say(f"{sink['tensor']}: {len(got)} beats, {len(bad)} differ")
    say(f"{frames} frames in {seconds:.1f} s over the line")
    return sum(map(len, decoder.beats)), wrong


def facts_of(beside: Path) -> dict[str, Any]:
    """The line that the bitstream was made for."""
    try:
        found: dict[str, Any] = json.loads(beside.read_text())
    except FileNotFoundError:
        return {"line": "uart", "baud": 1_000_000}
    return found


def parser(here: Path) -> argparse.ArgumentParser:
    """The options; what a build in whose folder `here` lies says is the default."""
    facts = facts_of(here / "line.json")
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--port", default=facts.get("url"), required="url" not in facts,
                      help="a serial port, like /dev/ttyUSB1; of an SPI pyftdi's URL")  # fmt: skip
    made.add_argument("--images", "--image", type=Path, nargs="+", metavar="DIR|IMAGE",
                      help="pictures of any size, and folders of them")  # fmt: skip
    made.add_argument("--camera", type=int, nargs="?", const=0, help="number of a camera")
    made.add_argument("-o", "--output", type=Path, default=Path("seen"), metavar="DIR",
                      help="where NAME.boxes.png are written (seen)")  # fmt: skip
    made.add_argument("--threshold", type=float, default=0.3, help="lowest score shown (0.3)")
    made.add_argument("--json", type=Path, metavar="FILE", help="what was found")
    made.add_argument("--frames", type=int, default=0,
                      help="stored frames, or frames of the camera; default: all")  # fmt: skip
    made.add_argument("--baud", type=int, default=facts.get("baud", 0), help="of a serial port")
    made.add_argument("--build", type=Path, default=here.parent, help="the build's folder")
    made.add_argument("--patience", type=float, default=PATIENCE,
                      help="seconds to wait for a byte (5)")  # fmt: skip
    return made


def look(line: Any, options: argparse.Namespace) -> int:
    """Pictures or a camera; exit code 0. Raises IntaglioError."""
    try:
        from intaglio.chip import sight
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "NumPy and Pillow must be installed to send pictures: pip install numpy pillow"
            f" ({error.name} is missing)"
        ) from error
    manifest = json.loads((options.build / "manifest.json").read_text())
    how = (options.output, options.threshold, options.patience)
    line.send_break(0.01)  # resets the design
    line.reset_input_buffer()
    facts = facts_of(options.build / "bitstream" / "line.json")
    rate = line_bytes(facts if facts["line"] == "spi" else {**facts, "baud": options.baud})
    if options.camera is not None:
        with suppress(KeyboardInterrupt):
            sight.watch(line, manifest, rate, options.camera, *how, options.frames)
        return 0
    record = sight.look_at(line, manifest, rate, options.images, *how)
    if options.json is not None:
        sight.write_record(options.json, record)
    return 0


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Any]:
    """The line to the board. Raises ModuleNotFoundError, which says what is to be installed."""
    spi = options.port.startswith("ftdi://")
    package = "pyftdi" if spi else "pyserial"
    try:
        if spi:
            from intaglio.chip.spi_line import ftdi

            facts = facts_of(options.build / "bitstream" / "line.json")
            yield ftdi(options.port, facts["hertz"])
            return
        import serial
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{package} must be installed: pip install {package}.") from None
    with serial.Serial(options.port, options.baud, timeout=0.01) as line:
        with suppress(AttributeError, OSError, ValueError):  # where the system has it
            line.set_low_latency_mode(True)  # else the adapter keeps credits for 16 ms
        yield line


def main() -> int:
    """Exit 0 when every beat is right or every picture was looked at, 1 where beats differ, 2 where
    something is missing or the board does not answer."""
    options = parser(Path(__file__).resolve().parent).parse_args()
    try:
        with opened(options) as line:
            if options.images or options.camera is not None:
                return look(line, options)
            _, wrong = run(line, options.build, options.frames, options.patience)
    except (IntaglioError, ModuleNotFoundError) as error:
        print(f"host.py: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:  # no port, no build, silence, a byte that means nothing
        print(f"host.py: the board must answer as the build does, but: {error}.", file=sys.stderr)
        return 2
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
