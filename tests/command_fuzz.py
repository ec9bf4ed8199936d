"""Command lines at random: every option of every command with values that it was not made for.

As a program: PYTHON command_fuzz.py FOLDER [START [STEP]] prints what went wrong in every STEP-th.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import typer
from every_command import prepare_most
from tools import sentences

import intaglio.cli
from intaglio.cli.app import app
from intaglio.errors import ToolError
from intaglio.program import Program
from intaglio.quant.search.detptq import torch_device

Words = tuple[str, ...]
LONGEST = 20  # seconds that a command line may take here
DATA = ("--data", "in/data/scenes.json", "--images", "in/data/images")
PICTURE = "in/data/images/000000.png"
BASES: dict[str, Words] = {
    "scenes": ("-o", "out/scenes", "--count", "1", "--side", "32"),
    "train": ("every_command:detector", *DATA, "--batch", "2", "-o", "out/t.intaglio"),
    "quantize": ("every_command:detector", *DATA[2:], "--limit", "1", "-o", "out/q.intaglio"),
    "import": ("in/pooled.onnx", "-o", "out/i.intaglio", "--check", "1"),
    "info": ("in/det.intaglio",),
    "run": ("in/det.intaglio", PICTURE, "-o", "out/runs"),
    "eval": ("in/det.intaglio", *DATA, "--limit", "1"),
    "compare": ("in/net.intaglio", "in/net.intaglio"),
    "diverge": ("in/det.intaglio", *DATA[2:], "--rounding", "RND", "--tensor-limit", "1"),
    "trace": ("in/det.intaglio", PICTURE, "-o", "out/trace"),
    "export": ("in/net.intaglio", "-o", "out/net.onnx", "--check", "1"),
    "golden": ("in/net.intaglio", "-o", "out/golden", "--check", "0"),
    "build": ("in/net.intaglio", "-o", "out/build", "--target", "ice40-up5k", "--clock", "12"),
    "verify": ("in/build",),
    "bitstream": ("in/build", "--seeds", "1"),
    "report": ("in/build", "-o", "out/page.html"),
    "demo": ("-o", "out/demo"),
}
VALUES = (
    "", " ", ".", "x", "-", "--", "-1", "0", "1", "1.5", "1e99", "9" * 20, "-" + "9" * 20, "nan",
    "inf", "-inf", "[/x]", "ü", "a" * 300, "..", "0x10", "1,2,3", "a=b", "*=4x4", ":", "é:é",
    "16:wrap",
    "8x8", "bops=4",
    "in", "in/empty", "in/words.txt", PICTURE, "in/net.intaglio", "in/pooled.onnx", "in/build",
    "in/data/scenes.json", "in/grey.npy", "in/other.npy", "absent", "absent/absent", "/dev/null",
    "in/words.txt/x",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command line led to; `trace` where it was an error of intaglio's own."""

    words: Words
    code: int
    err: str
    trace: str = ""

    def fault(self) -> str:
        """What is wrong with it, or nothing."""
        if self.trace:
            return self.trace
        lines = [x for x in sentences(self.err) if not x.startswith("intaglio: warning: ")]
        if self.code == 2:
            said = lines[0] if len(lines) == 1 else ""
            if not (said.startswith("intaglio: ") and " must " in said and said[-1] in ".?!"):
                return f"no refusal in one sentence: {self.err!r}"
        elif self.code not in (0, 1):
            return f"exit code {self.code}: {self.err!r}"
        elif "Warning: " in self.err:
            return f"a warning of Python: {self.err!r}"
        return ""


def commands() -> dict[str, Any]:
    """The parser's commands."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def without(base: Words, names: list[str]) -> Words:
    """The base's words without an option and its value."""
    found, words = [], list(base)
    while words:
        word = words.pop(0)
        if word in names:
            words.pop(0)
        else:
            found.append(word)
    return tuple(found)


def cases() -> Iterator[Words]:
    """Every option of every command: missing, alone, given twice, with every value; every argument
    with every value."""
    for name, command in commands().items():
        base = BASES[name]
        yield (name,)
        for param in command.params:
            if param.param_type_name == "argument":
                if not param.hidden:
                    at = [p for p in command.params if p.param_type_name == "argument"].index(param)
                    yield from ((name, *base[:at], v, *base[at + 1 :]) for v in VALUES)
                continue
            for option in (*param.opts, *param.secondary_opts):
                rest = (name, *without(base, [*param.opts, *param.secondary_opts]))
                yield rest
                yield (*rest, option)
                if param.is_flag:
                    yield (*rest, option, option)
                    yield (*rest, f"{option}=x")
                    continue
                if option in param.opts[:-1]:
                    continue  # the short name of one that has its turn
                for value in VALUES:
                    yield (*rest, option, value)
                    yield (*rest, f"{option}={value}")
                yield (*rest, option, "1", option, "2")


def mixed(count: int, seed: int) -> list[Words]:
    """Cases, each with words of another of its command behind it."""
    chosen, found = random.Random(seed), []
    by_name: dict[str, list[Words]] = {}
    for case in cases():
        by_name.setdefault(case[0], []).append(case)
    for _ in range(count):
        first, second = chosen.choices(by_name[chosen.choice(list(by_name))], k=2)
        found.append((*first, *second[-chosen.choice((1, 2)) :]))
    return found


def too_long(*_: object) -> None:
    """What the alarm does."""
    raise TimeoutError(f"no answer for {LONGEST} s")


def stopped(*_: object, **__: object) -> Any:
    """Instead of a program that takes long."""
    raise ToolError("The program must be run, not left out.")


class Workplace:
    """A folder with `in`, kept as it is, and `out`, emptied after every call."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder / "deep" / "work", folder / "kept"
        self.kept.mkdir(parents=True)
        with contextlib.chdir(Path(__file__).parent):
            prepare_most(self.kept / "in")
        (self.kept / "in/empty").touch()
        (self.kept / "in/words.txt").write_text("words\n")
        np.save(self.kept / "in/grey.npy", np.zeros((1, 32, 32), np.uint8))
        np.save(self.kept / "in/other.npy", np.zeros((3, 32, 32), np.float64))
        self.restore()

    def restore(self) -> None:
        """As at the beginning."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        shutil.copytree(self.kept, self.folder)
        self.state = self.look()

    def look(self) -> list[tuple[str, int, int]]:
        """Everything there, with times and sizes."""
        found = []
        for path, _, files in os.walk(self.folder.parent):
            for name in (".", *files):
                about = os.lstat(os.path.join(path, name))
                found.append((os.path.join(path, name), about.st_mtime_ns, about.st_size))
        return sorted(found)

    def call(self, words: Words) -> Answer:
        """One command line, in this process."""
        out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
        code, trace = 0, ""
        with (
            contextlib.chdir(self.folder), contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err), mock.patch.object(sys, "argv", ["intaglio", *words]),
            warnings.catch_warnings(),
        ):  # fmt: skip
            signal.alarm(LONGEST)
            try:
                intaglio.cli.main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException:
                code, trace = -1, traceback.format_exc()
            finally:
                signal.alarm(0)
        if self.look() != self.state:
            self.restore()
        return Answer(words, code, err.getvalue(), trace)


@contextlib.contextmanager
def short_work() -> Iterator[None]:
    """What takes long is left out, but nothing that decides whether words are refused."""
    with contextlib.ExitStack() as stack:
        before = signal.signal(signal.SIGALRM, too_long)
        stack.callback(signal.signal, signal.SIGALRM, before)
        for target, stub in stubs().items():
            stack.enter_context(mock.patch(target, stub))
        yield


def known(value: Any) -> str:
    """What distinguishes a value that a command computes with."""
    if isinstance(value, np.ndarray):
        return f"{value.shape} {hash(value.tobytes())}"
    return value.digest() if isinstance(value, Program) else repr(value)


def remembered(home: str, name: str) -> Callable[..., Any]:
    """A function of the module `home` that works once for the same arguments."""
    function, done = getattr(import_module(home), name), {}

    def again(*words: Any, **more: Any) -> Any:
        if "device" in more:
            torch_device(more["device"])
        told = {k: v for k, v in more.items() if k not in ("steps", "progress", "state", "pool")}
        key = " ".join(map(known, [*words, *told.items()]))
        if key not in done:
            done[key] = function(*words, **more)
        return done[key]

    return again


def stubs() -> dict[str, Callable[..., Any]]:
    """By the place where each is looked up."""
    return {
        "intaglio.codegen.bundle.build": remembered("intaglio.codegen.bundle", "build"),
        "intaglio.quant.quantize": remembered("intaglio.quant", "quantize"),
        "intaglio.quant.train.TrainedNetwork": remembered("intaglio.quant.train", "TrainedNetwork"),
        "intaglio.quant.train.resumed": stopped,  # the epochs come next
        "intaglio.demo.run_demo": lambda *_, **__: {"passed": True},
        "intaglio.codegen.running.verify.run_bench": stopped,
        "intaglio.codegen.running.compile.compiled": stopped,
        "intaglio.chip.synthesis.run_tool": stopped,
        "intaglio.chip.bitstream.run_tool": stopped,
        "intaglio.system.spread.processes": stopped,
        "intaglio.system.spread.connected": stopped,
    }


def main() -> None:
    """Command line."""
    folder, first, step = Path(sys.argv[1]), *map(int, [*sys.argv[2:], "0", "1"][:2])
    place = Workplace(folder)
    count = 0
    with short_work():
        for words in [*cases()][first::step]:
            began = os.times().user
            answer = place.call(words)
            took = os.times().user - began
            count += 1
            fault = answer.fault()
            if fault or took > 2:
                print(f"--- {' '.join(words)[:300]}  [{took:.1f} s]\n{fault[-1500:]}", flush=True)
    print(count, "calls")


if __name__ == "__main__":
    main()
