"""Pictures to a board and boxes back: what `host.py` does with `--images` and `--camera`.

It is copied beside `host.py` with the modules that it imports, and needs NumPy and Pillow.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.chip.protocol import Decoder, exchange, line_rate, to_bytes
from intaglio.cosim.port import Port
from intaglio.detect.decode import HeadSpec
from intaglio.detect.images import image_files
from intaglio.detect.pictures import as_codes, load_image
from intaglio.detect.seen import BOXES, Seen, check_names, seen
from intaglio.errors import DataError
from intaglio.ops import Tensor

TOGETHER = 16  # pictures that are under way at once


class Eyes:
    """A build on a board behind an open `line`, with the methods of a `serial.Serial`.

    Raises DataError where the build has no head description, or is older than this program.
    """

    def __init__(self, line: Any, manifest: Mapping[str, Any], patience: float) -> None:
        self.line, self.patience = line, patience
        self.source = Port.from_json(manifest["input"])
        self.sinks = [Port.from_json(entry) for entry in manifest["outputs"]]
        if not manifest.get("head"):
            raise DataError(
                "The build must carry a head description to make boxes of its maps; build it again"
                " from a detector, or play the stored frames without --images."
            )
        self.spec = HeadSpec.from_json(manifest["head"])
        ports = {sink.tensor: sink for sink in self.sinks}
        self.outputs = [
            Tensor(m["name"], p.shape, p.type, p.type.lo, p.type.hi, m["scale"],
                   tuple(m["zero_point"]))
            for m in manifest["maps"] for p in (ports[m["name"]],)
        ]  # fmt: skip

    def maps(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Images (N, C, H, W) through the board: the integers (N, C, h, w) of every output."""
        decoder = Decoder([sink.data_width for sink in self.sinks])
        codes = as_codes(images, self.source.type)
        exchange(
            to_bytes(self.source.pack(codes.astype(np.int64)), self.source.data_width),
            decoder,
            [len(images) * sink.beats for sink in self.sinks],
            self.line.write,
            lambda: self.line.read(4096),
            self.patience,
        )
        found = {}
        for sink, beats in zip(self.sinks, decoder.beats, strict=True):
            found[sink.tensor] = sink.frames([data for _, data in beats])
        return found

    def look(self, files: Sequence[Path], threshold: float) -> list[Seen]:
        """What the board sees in picture files, which are letterboxed where they must be."""
        channels, height, width = shape = self.source.shape
        images = np.stack(
            [load_image(f, (height, width), resize=True, channels=channels)[0] for f in files]
        )
        maps = self.maps(images)
        return [
            seen(file, self.spec, self.outputs, {name: m[n] for name, m in maps.items()}, shape,
                 threshold)
            for n, file in enumerate(files)
        ]  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Frames a second of the device by its cycles, of the line at most, and measured over it."""

    device: float
    line: float
    measured: float

    def sentence(self) -> str:
        """The rates apart."""
        return (
            f"device {self.device:.1f} frames/s; line at most {self.line:.1f} frames/s,"
            f" measured {self.measured:.2f}"
        )


def look_at(
    line: Any, manifest: Mapping[str, Any], rate: float, places: Sequence[Path], folder: Path,
    threshold: float, patience: float, say: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Send picture files, and all those of folders, over a line of `rate` bytes/s;
    FOLDER/NAME.boxes.png of each. Returns what was found, as `intaglio run --json` has it, and the
    rates."""
    eyes, files = Eyes(line, manifest, patience), image_files(places)
    check_names(files)
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Seen] = []
    seconds = 0.0
    for first in range(0, len(files), TOGETHER):
        started = time.monotonic()
        part = eyes.look(files[first : first + TOGETHER], threshold)
        seconds += time.monotonic() - started
        for one in part:
            target = drawn(one, folder)
            say(f"{one.path}: {one.words()} -> {target}")
        found += part
    speed = Speed(manifest["fps"], line_rate(manifest, rate), len(files) / max(seconds, 1e-9))
    say(speed.sentence())
    return {
        "images": len(found),
        "detections": [one.to_json() for one in found],
        "device_fps": speed.device,
        "line_fps": speed.line,
        "measured_fps": speed.measured,
    }


def drawn(one: Seen, folder: Path) -> Path:
    """The picture with its boxes, in a file of its own."""
    target = folder / f"{one.path.stem}{BOXES}"
    one.picture.save(target, format="PNG")
    return target


def watch(
    line: Any, manifest: Mapping[str, Any], rate: float, camera: int, folder: Path,
    threshold: float, patience: float, count: int = 0, say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Frames of a camera, each as a file that is looked at like any other, until `count` of them
    or Ctrl-C; FOLDER/camera.boxes.png is the last. Returns how many. Needs OpenCV."""
    eyes = Eyes(line, manifest, patience)
    folder.mkdir(parents=True, exist_ok=True)
    limit = line_rate(manifest, rate)
    done = 0
    with tempfile.TemporaryDirectory() as kept:
        file = Path(kept) / "camera.png"
        for _ in frames_of(camera, file, count):
            started = time.monotonic()
            (one,) = eyes.look([file], threshold)
            drawn(one, folder)
            done += 1
            speed = Speed(manifest["fps"], limit, 1 / max(time.monotonic() - started, 1e-9))
            say(f"{one.words()}; {speed.sentence()}")
    return done


def frames_of(camera: int, file: Path, count: int) -> Iterator[int]:
    """Writes one frame of a camera after the other. Raises DataError without OpenCV or a camera."""
    try:
        import cv2
    except ModuleNotFoundError:
        raise DataError(
            "OpenCV must be installed for --camera: pip install opencv-python-headless."
        ) from None
    source = cv2.VideoCapture(camera)
    try:
        n = 0
        while not count or n < count:
            whole, frame = source.read()
            if not whole:
                raise DataError(f"Camera {camera} must give pictures, but gave none.")
            cv2.imwrite(str(file), frame)
            yield n
            n += 1
    finally:
        source.release()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """The record as JSON."""
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
