"""Every command once, in one process: PYTHON every_command.py prepare|quick|long FOLDER [LEFT...].

prepare      what the commands read, into FOLDER/in.
quick, long  the commands; LEFT: each with FOLDER/out, a file system, filled up but for so many
             pages.

Prints a JSON list: of each command its name, exit code, last words and what it changed below out.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from models import tiny_detector
from networks import skip
from onnx import TensorProto, helper

import intaglio.cli
from intaglio.codegen.bundle import build
from intaglio.detect.scenes import write_scenes
from intaglio.file import save

PAGE = 4096


def detector() -> object:
    """MODEL of the commands that want a network in torch."""
    return tiny_detector()


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and last words of a command, in this process."""
    sys.argv = ["intaglio", *map(str, arguments)]
    code, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            intaglio.cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:  # a traceback, as a user would see it
            return 1, f"Traceback: {error!r}"
    return code, err.getvalue()


def prepare(into: Path) -> None:
    """The inputs."""
    prepare_most(into)
    quantise(into, "tosa.intaglio", "--arithmetic", "tosa")


def prepare_most(into: Path) -> None:
    """The inputs of all commands but of an export as TOSA."""
    write_scenes(into / "data", 4, 32, 1, "train")
    save(skip(), into / "net.intaglio")
    build(skip(), target="ice40-up5k", clock_mhz=12).write(into / "build")
    pooled(into / "pooled.onnx")
    quantise(into, "det.intaglio")


def quantise(into: Path, name: str, *more: str) -> None:
    """The detector as a Program."""
    step = ("quantize", "every_command:detector", "--images", into / "data/images", *more)
    code, err = command(*step, "-o", into / name)
    assert code == 0, (step, err)


def pooled(path: Path) -> None:
    """An ONNX file as quantisers write them: codes, one operator, codes."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["m", "scale", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "scale", "zero"], ["y"]),
    ]
    shapes = {"x": [1, 3, 6, 6], "y": [1, 3, 5, 5]}
    x, y = (helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items())
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.25]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [7]),
    ]
    graph = helper.make_graph(nodes, "pooled", [x], [y], constants)
    opset = helper.make_opsetid("", 17)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    )


def quick(into: Path, out: Path) -> Iterator[tuple[object, ...]]:
    """Commands of a second or two each."""
    det, net, picture = (
        into / "det.intaglio",
        into / "net.intaglio",
        into / "data/images/000000.png",
    )
    data = ("--data", into / "data/scenes.json", "--images", into / "data/images")
    yield "scenes", out / "scenes", "--count", 3, "--size", 32
    yield "quantize", "every_command:detector", *data[2:], "-o", out / "deep/q.intaglio"
    yield "import", into / "pooled.onnx", "-o", out / "i.intaglio"
    yield "info", det, "--json", out / "info.json"
    yield "run", det, picture, "-o", out / "runs"
    yield "run", det, picture, "--raw", "-o", out / "raw"
    yield "eval", det, *data, "--json", out / "eval.json"
    yield "compare", net, net, "--json", out / "compare.json"
    yield "diverge", det, *data, "--rounding", "RND", "--json", out / "diverge.json"
    yield "trace", det, picture, "-o", out / "trace"
    yield "trace", det, picture, "--format", "hex", "-o", out / "hex"
    yield "golden", net, "-o", out / "c"
    yield "export", net, "-o", out / "net.onnx"
    yield "export", into / "tosa.intaglio", "--check", 0, "-o", out / "net.tosa"
    yield "build", net, "--target", "generic", "--lanes", 40, "-o", out / "b"
    yield "verify", out / "build", "--simulator", "icarus"
    yield "report", into / "build", "-o", out / "page.html"


def long(into: Path, out: Path) -> Iterator[tuple[object, ...]]:
    """Commands that take longer."""
    data = ("--data", into / "data/scenes.json", "--images", into / "data/images")
    yield (
        "train",
        "every_command:detector",
        *data,
        "--epochs",
        1,
        "--batch",
        2,
        "-o",
        out / "t.intaglio",
    )
    yield "verify", out / "build"
    yield "eval", out / "rtl", *data, "--engine", "rtl"
    yield "verify", out / "build", "--gates"
    yield "bitstream", out / "build", "--seeds", 1
    yield "demo", "-o", out / "demo"


def below(folder: Path) -> set[str]:
    """Names of everything in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fill(path: Path, left: int) -> None:
    """Write until the file system is full, then take some pages back."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE))
    os.truncate(path, path.stat().st_size - left * PAGE)


def main() -> None:
    """Command line."""
    mode, folder, *pages = sys.argv[1:]
    into, out = Path(folder) / "in", Path(folder) / "out"
    if mode == "prepare":
        prepare(into)
        return
    shutil.copytree(into / "build", out / "build")
    if mode == "long":
        det = into / "det.intaglio"
        code, err = command("build", det, "--target", "generic", "--lanes", 60, "-o", out / "rtl")
        assert code == 0, err
    found = []
    for left in map(int, pages) if pages else [None]:
        for arguments in (long if mode == "long" else quick)(into, out):
            before = below(out)
            if left is not None:
                fill(out / "filler", left)
            code, err = command(*arguments)
            (out / "filler").unlink(missing_ok=True)
            new = sorted(before ^ below(out))
            name = " ".join(str(part).replace(f"{folder}/", "") for part in arguments)
            found.append({"name": name, "left": left, "code": code, "err": err, "new": new})
            for path in sorted(below(out) - before, reverse=True):
                whole = out / path
                whole.rmdir() if whole.is_dir() else whole.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
