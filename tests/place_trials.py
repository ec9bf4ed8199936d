"""Commands whose results are sent to places of all kinds: PYTHON place_trials.py quick|all FOLDER
COUNT SEED.

A trial is a command, a place for each of its results (`result_places`) and, in every third, a
signal at a random moment. FOLDER/small is a file system of its own, which is full in the trials
that say so; nobody here may write where the modes do not allow it, root neither. After a trial no
input has changed, what was there before stands or a whole result is in its place, nothing else has
come to be, and the exit code is the one that the places ask for.

Prints JSON: the trials that went wrong, and how many there were of each kind and exit code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from every_command import PAGE, pooled
from networks import skip
from PIL import Image
from result_places import PLACES, STDOUT, Place, Spot, full, is_whole, is_whole_file

import intaglio.cli
from intaglio.codegen.bundle import build
from intaglio.detect.scenes import write_scenes
from intaglio.file import save
from intaglio.system.disk import PART
from intaglio.system.steps import RECORD

WARNING = "intaglio: warning: "
MORE = 40  # trials at most until each signal has ended a command
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@dataclass(frozen=True)
class Command:
    """Words of a command, files that it reads, the kinds of its results by their options, whether
    it knows --force, how often it is tried beside others, and its exit code where all is well."""

    words: tuple[object, ...]
    reads: tuple[Path, ...]
    results: dict[str, str]
    can_force: bool = False
    often: int = 4
    code: int = 0


def quick(into: Path) -> list[Command]:
    """Commands without a detector: no torch."""
    net, made, onnx = into / "net.intaglio", into / "build", into / "pooled.onnx"
    image, other = into / "pictures/0.png", into / "pictures/1.png"
    of_build = (made / "manifest.json", made / "program.intaglio")
    json_file = {"--json": "json"}
    return [
        Command(("info", net), (net,), json_file),
        Command(("run", net, image, other, "--raw"), (net, image), {"-o": "runs", **json_file}),
        Command(("compare", net, net, "--images", into / "pictures"), (net, image), json_file),
        Command(("trace", net, image), (net, image), {"-o": "trace", **json_file}, True),
        Command(("export", net, "--check", 0), (net,), {"-o": "onnx", **json_file}, True),
        Command(("import", onnx, "--no-check"), (onnx,), {"-o": "program", **json_file}, True),
        Command(("golden", net, "--check", 0), (net,), {"-o": "golden", **json_file}, True),
        Command(("report", made), of_build, {"-o": "html", **json_file}),
        Command(("scenes", "--count", 2, "--side", 32), (), {"-o": "scenes", **json_file}),
        Command(("build", net, "--target", "generic", "--multipliers", 40), (net,),
                {"-o": "build", **json_file}, True, 1),
        Command(("bitstream", made, "--seeds", 0), of_build, json_file, True, 1, 2),
    ]  # fmt: skip


def others(into: Path) -> list[Command]:
    """Commands that take longer."""
    det, made, image = into / "det.intaglio", into / "build", into / "data/images/000000.png"
    data, images = into / "data/scenes.json", ("--images", into / "data/images")
    coco, json_file = (*images, "--data", data), {"--json": "json"}
    reads, model = (det, data, image), "every_command:detector"
    return [
        Command(("run", det, into / "data/images"), (det, image), {"-o": "runs", **json_file}),
        Command(("eval", det, *coco), reads, {**json_file, "--predictions": "list"}, often=2),
        Command(("diverge", det, *coco, "--rounding", "RND"), reads, json_file, often=1),
        Command(("quantize", model, *images), (image,), {"-o": "program", **json_file}, True, 2),
        Command(("train", model, *coco, "--epochs", 1, "--batch", 2), (data, image),
                {"-o": "program", **json_file}, True, 1),
        Command(("verify", made, "--simulator", "icarus"), (made / "manifest.json",), json_file,
                often=1),
    ]  # fmt: skip


def prepare(into: Path, everything: bool) -> None:
    """What the commands read."""
    save(skip(), into / "net.intaglio")
    pooled(into / "pooled.onnx")
    build(skip(), target="ice40-up5k", clock_mhz=12).write(into / "build")
    (into / "pictures").mkdir()
    rng = np.random.default_rng(5)
    _, height, width = skip().inputs[0].shape
    for n in range(2):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(into / f"pictures/{n}.png")
    if everything:
        from every_command import detector

        from intaglio.quant import quantize

        write_scenes(into / "data", 4, 32, 1, "train")
        images = [np.asarray(Image.open(p)) for p in sorted((into / "data/images").iterdir())]
        done = quantize(detector(), np.stack(images).transpose(0, 3, 1, 2).copy())
        save(done.program, into / "det.intaglio")


def seen(folder: Path) -> dict[str, object]:
    """Everything below a folder: contents, links, kinds and modes. Of a build in it, what a whole
    verification leaves there is left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        mode, name = path.lstat().st_mode, str(path.relative_to(folder))
        if name.startswith(("build/sim", "build/records")) and PART not in name:
            continue
        what: object = stat.S_IFMT(mode)
        if stat.S_ISLNK(mode):
            what = os.readlink(path)
        elif stat.S_ISREG(mode):
            what = hashlib.sha256(path.read_bytes()).hexdigest(), stat.S_IMODE(mode)
        found[name] = what
    return found


class Reader(threading.Thread):
    """Reads a pipe until nobody is going to write to it any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.data, self.over = b"", False
        self.end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.start()

    def run(self) -> None:
        while True:
            over, part = self.over, b""
            with suppress(BlockingIOError):
                part = os.read(self.end, 1 << 16)
            self.data += part
            if over and not part:
                return
            if not part:
                time.sleep(0.002)

    def all(self) -> bytes:
        """What came."""
        self.over = True
        self.join()
        os.close(self.end)
        return self.data


@contextmanager
def signalled(number: int | None, after: float) -> Iterator[None]:
    """A signal to this process, `after` seconds from now, if it is not over by then."""
    lock, over = threading.Lock(), False

    def send() -> None:
        with lock:
            if not over and number is not None:
                os.kill(os.getpid(), number)

    timer = threading.Timer(after, send)
    if number is not None:
        timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()


def called(words: list[str], number: int | None, after: float) -> tuple[int, bytes, str]:
    """Exit code, standard output and error of a command."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = sys.stdout, sys.stderr, sys.argv
    code, wrong = 0, ""
    sys.stdout, sys.stderr, sys.argv = out, err, ["intaglio", *words]
    try:
        with signalled(number, after):
            intaglio.cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:  # a traceback, as a user would see it
        code, wrong = 1, f"Traceback: {error!r}"
    finally:
        sys.stdout, sys.stderr, sys.argv = before
    read = [stream.buffer.getvalue() for stream in (out, err)]  # type: ignore[attr-defined]  # BytesIO
    return code, read[0], read[1].decode() + wrong


def fill(small: Path) -> None:
    """Leave no byte on a file system."""
    with (small / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(PAGE))


class Trials:
    """Trials in a folder, with inputs in `in`."""

    def __init__(self, root: Path, commands: list[Command], seed: str) -> None:
        self.root, self.commands, self.seed = root, commands, seed
        self.took: dict[str, float] = {}  # of each command, at most
        self.wrong: list[list[object]] = []
        self.kinds: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()

    def run(self, n: int, sent: signal.Signals | None = None) -> None:
        """The n-th, on its own; one more, which is not counted, with a signal that is `sent`."""
        rng = random.Random(f"{self.seed}/{n}")
        command = rng.choices(self.commands, [c.often for c in self.commands])[0]
        here, small = self.root / "here", self.root / "small"
        here.mkdir()
        os.chdir(here)
        places: dict[str, Place] = {}
        about, made = [str(command.words[0])], []
        for number, (option, kind) in enumerate(command.results.items()):
            if number and rng.random() < 0.4:
                continue
            make = rng.choice(PLACES)
            built = self.root / "in/build"
            places[option] = make(
                Spot(here, small, built, kind, command.reads, command.can_force, number, rng)
            )
            about.append(f"{option} {make.__name__}")
            made.append(make)
        if full in made:  # once everything is there
            fill(small)
        more, drawn = sent is not None, rng.choice(list(CODES)) if rng.random() < 0.33 else None
        sent = sent or drawn
        after = rng.random() ** 2 * self.took.get(about[0], 0.3)
        about += [sent.name] if sent else []
        self.kinds[" ".join(about)] += not more
        wrong = self.tried(command, places, sent, after)
        if wrong:
            self.wrong.append([n, *about, *wrong])
        clean(here, small)

    def tried(
        self, command: Command, places: dict[str, Place], sent: signal.Signals | None, after: float
    ) -> list[str]:
        """Call the command; what is wrong with what it did."""
        force = any(place.force for place in places.values())
        words = [str(word) for word in command.words] + ["--force"] * force
        for option, place in places.items():
            words += [option, str(place.words)]
        pipes = {o: Reader(p.at) for o, p in places.items() if p.at is not None and p.at.is_fifo()}
        before = {name: seen(self.root / name) for name in ("in", "here", "small")}
        started = time.monotonic()
        code, out, err = called(words, sent, after)
        name, spent = str(command.words[0]), time.monotonic() - started
        self.took[name] = max(spent, self.took.get(name, 0.0)) if sent is None else spent
        self.codes[code] += 1
        streams = {option: reader.all() for option, reader in pipes.items()}
        streams |= {option: out for option, place in places.items() if place.words in STDOUT}
        wrong = []
        if "Traceback" in err or "ignored" in err:
            wrong.append("a traceback")
        allowed = {expected(command, places, force), *([CODES[sent]] if sent else [])}
        if code not in allowed:
            wrong.append(f"exit code {code}, not one of {sorted(allowed)}")
        said = [x for x in err.splitlines() if x.startswith("intaglio: ") and WARNING not in x]
        if code == 2 and (len(said) != 1 or not err.endswith(f"{said[0]}\n")):
            wrong.append("not one sentence")
        after_it = {name: seen(self.root / name) for name in before}
        wrong += [
            f"{name} has changed" for name in ("in", "small") if before[name] != after_it[name]
        ]
        for option, data in streams.items():
            if code == 0 and not is_whole_file(command.results[option], data):
                wrong.append(f"{option} is not whole")
        files = {o: p for o, p in places.items() if o not in streams}
        wrong += self.compared(command, files, code, before["here"], after_it["here"])
        return [*filter(None, wrong), " ".join(words), err[-500:]] if any(wrong) else []

    def compared(
        self,
        command: Command,
        places: dict[str, Place],
        code: int,
        before: dict[str, object],
        now: dict[str, object],
    ) -> list[str]:
        """What is wrong with what stands in the folder one works in."""
        wrong = []
        changed = {n for n in before.keys() | now.keys() if before.get(n) != now.get(n)}
        for option, place in places.items():
            if place.at is None or not place.at.is_relative_to(self.root / "here"):
                continue
            kind, name = command.results[option], str(place.at.relative_to(self.root / "here"))
            mine = {n for n in changed if n == name or n.startswith(f"{name}/")}
            if mine and not is_whole(kind, place.at):
                wrong.append(f"{option} is not whole")
            if code == 0 and not mine:
                wrong.append(f"{option} was not written")
            if kind == "runs" and any(n in before for n in mine):
                wrong.append(f"{option} changed what was there")
            above = {n for n in changed if name.startswith(f"{n}/")}
            changed -= (mine | above) if mine else set()
            if kind == "program" and code == 0:  # how long it took is told beside it
                changed -= {n for n in changed if n.endswith(f".{RECORD}")}
        return wrong + ([f"{sorted(changed)} should be as before"] if changed else [])


def expected(command: Command, places: dict[str, Place], force: bool) -> int:
    """The exit code of a command that nobody interrupts."""
    twice = sum(place.words in STDOUT for place in places.values()) > 1
    refused = any(p.code and not (p.costly and force) for p in places.values())
    return 2 if twice or refused else command.code


def clean(here: Path, small: Path) -> None:
    """Nothing stays for the next."""
    os.chdir(here.parent)
    for path in here.rglob("locked*"):
        path.chmod(0o755)
    shutil.rmtree(here)
    for path in small.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Command line."""
    kind, folder, count, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    into = folder / "in"
    into.mkdir()
    prepare(into, kind == "all")
    for number in CODES:  # what comes too late is nothing to end for
        signal.signal(number, lambda *_: None)
    trials = Trials(folder, quick(into) + (others(into) if kind == "all" else []), seed)
    for n in range(count):
        trials.run(n)
    for sent, code in CODES.items():  # one comes too late now and then
        for n in range(count, count + MORE):
            if code not in trials.codes:
                trials.run(n, sent)
    print(json.dumps({"wrong": trials.wrong, "kinds": trials.kinds, "codes": trials.codes}))


if __name__ == "__main__":
    main()
