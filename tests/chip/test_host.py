"""The host program of a board: pictures in, boxes out, as `intaglio run` has them."""

import ast
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pty_board import PtyBoard
from test_board import needs_boards
from tools import Cli, needs, needs_tools

import intaglio
from intaglio.chip import host, sight
from intaglio.chip.bitstream import surrounding
from intaglio.chip.carried import CARRIED, host_files
from intaglio.chip.synthesis import FOLDER
from intaglio.detect.decode import HeadSpec
from intaglio.errors import DataError, IntaglioError
from intaglio.program import Program

PACKAGE = Path(intaglio.__file__).parent


@pytest.fixture(scope="module")
def finder() -> Program:
    """A quantised detector of two classes for 16 x 24 pixels, which sees something everywhere."""
    import torch
    from torch import nn

    from intaglio.detect.networks.column import Column

    torch.manual_seed(3)
    spec = HeadSpec("retinanet", ("cat", "dog"), (8,), ((12.0,),), (1.0,), topk=4)
    model = Column(spec, (4, 4, 4))
    model.input_size = (16, 24)
    for predictor in (model.cls_logits, model.bbox_reg):
        nn.init.normal_(predictor.weight, std=0.5)
    nn.init.zeros_(model.cls_logits.bias)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 24), dtype=np.uint8)
    model(torch.from_numpy(images).float() / 64 - 2)
    return intaglio.quantize(model.eval(), images, wbits=4, abits=4)


def on_board(program: Program, folder: Path) -> Path:
    """A build for the ULX3S with the files of its bitstream, but for that; without a PLL, of whose
    cell there is a model in netlists alone, and with a line that is soon simulated."""
    intaglio.build(program, board="ulx3s", clock_mhz=25, lanes=12).write(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    around = surrounding(manifest, "ulx3s", 25_000_000 // 4)
    for path, text in around.files.items():
        (folder / FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / FOLDER / path).write_text(text)
    return folder


def pictures(folder: Path) -> list[Path]:
    """Of the network's size, larger, and turned by its EXIF orientation."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name, (height, width) in (("a.png", (16, 24)), ("b.png", (50, 40)), ("c.jpg", (31, 64))):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / name, exif=exif if name == "c.jpg" else Image.Exif())
    return sorted(folder.iterdir())


@pytest.mark.rtl
def test_pictures_over_a_pseudo_terminal(finder: Program, tmp_path: Path, cli: Cli) -> None:
    """The program as it lies beside the bitstream, in a process of its own, without intaglio."""
    needs("verilator")
    needs_boards()
    needs_serial()
    folder, files = on_board(finder, tmp_path / "b"), pictures(tmp_path / "pictures")
    intaglio.save(finder, tmp_path / "m.intaglio")
    code, _, err = cli("run", "m.intaglio", *files, "--resize", "--json", "run.json", "-o", "runs")
    assert code == 0, err
    wanted = json.loads((tmp_path / "run.json").read_text())["detections"]
    assert sum(len(one["boxes"]) for one in wanted) > 3
    with PtyBoard(folder, netlist=False) as board:
        done = started(folder, "--port", board.port, "--images", tmp_path / "pictures",
                       "--json", tmp_path / "seen.json", "-o", tmp_path / "seen")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "seen.json").read_text())
    assert found["detections"] == wanted
    manifest = json.loads((folder / "manifest.json").read_text())
    assert found["device_fps"] == manifest["fps"]
    assert found["line_fps"] > found["measured_fps"]
    assert f"device {manifest['fps']:.1f} frames/s; line at most" in done.stdout
    for file in files:
        drawn = tmp_path / "seen" / f"{file.stem}.boxes.png"
        ours, theirs = Image.open(drawn), Image.open(tmp_path / f"runs/{file.stem}.boxes.png")
        assert ours.tobytes() == theirs.tobytes(), drawn


def needs_serial() -> None:
    """Skip without pyserial; with CI set it must be there."""
    if find_spec("serial") is None:
        assert not os.environ.get("CI")
        pytest.skip("pyserial is not installed")


def started(folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """The host program of a build, in a process that has no PYTHONPATH with intaglio in it."""
    path = os.pathsep.join(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep)
                           if not (Path(p) / "intaglio").is_dir())  # fmt: skip
    return subprocess.run(
        [sys.executable, str(folder / FOLDER / "host.py"), *map(str, options)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def is_import(node: ast.AST) -> bool:
    """And no block that type checkers alone read."""
    return isinstance(node, ast.ImportFrom)


def test_what_is_carried_is_all_that_is_imported() -> None:
    """Every import of a carried module, inside functions too, is carried or not intaglio's."""
    there = {f"intaglio/{path}" for path in CARRIED} | {"intaglio/chip/host.py"}
    for path in sorted(there):
        tree = ast.parse((PACKAGE.parent / path).read_text())
        tree.body = [n for n in tree.body if "TYPE_CHECKING" not in ast.dump(n) or is_import(n)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("intaglio"):
                module = str(node.module).replace(".", "/")
                names = [f"{module}/{alias.name}.py" for alias in node.names]
                whole = {f"{module}.py", f"{module}/__init__.py"} & there
                assert whole or all(n in there for n in names), (path, module)
    for name, text in host_files().items():
        if name.startswith("intaglio/") and not name.endswith("__init__.py"):
            assert text == (PACKAGE.parent / name).read_text()


def test_the_program_says_what_it_needs(
    finder: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Line:
        """A port that takes everything and says nothing."""

        def __init__(self, *args: object, **settings: object) -> None: ...
        def __enter__(self) -> "Line":
            return self

        def __exit__(self, *args: object) -> None: ...
        def send_break(self, seconds: float) -> None: ...
        def reset_input_buffer(self) -> None: ...
        def write(self, data: bytes) -> None: ...
        def read(self, count: int) -> bytes:
            return b""

    folder = tmp_path / "b"
    intaglio.build(finder, board="ulx3s", lanes=12).write(folder)
    (picture, *_) = pictures(tmp_path / "pictures")

    def run(*options: object) -> str:
        start = ["host.py", "--port", "COM7", "--build", str(folder), "--patience", "0"]
        monkeypatch.setattr(sys, "argv", [*start, *map(str, options)])
        assert host.main() == 2
        err = capsys.readouterr().err
        assert err.startswith("host.py: ")
        assert err.count("\n") == 1
        return err

    monkeypatch.setitem(sys.modules, "serial", SimpleNamespace(Serial=Line))
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.chdir(tmp_path)
    assert "nothing came for 0 s" in run("--images", picture)
    assert "must be an image or a folder of them" in run("--images", "none.png")
    assert "OpenCV must be installed for --camera: pip install opencv" in run("--camera")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "head": None}))
    assert "The build must carry a head description" in run("--images", picture)
    monkeypatch.delattr("intaglio.chip.sight")
    monkeypatch.setitem(sys.modules, "intaglio.chip.sight", None)
    assert "NumPy and Pillow must be installed to send pictures" in run("--images", picture)


class Echo:
    """A line whose board is the simulator."""

    def __init__(self, program: Program, manifest: dict[str, object]) -> None:
        self.program, self.manifest, self.out = program, manifest, bytearray()
        self.got = bytearray()

    def write(self, data: bytes) -> None:
        from intaglio.chip.protocol import LAST
        from intaglio.cosim.port import Port
        from intaglio.sim.engine import Simulator

        self.got += data
        source = Port.from_json(self.manifest["input"])  # type: ignore[arg-type]  # a JSON object
        size = source.beats * source.data_width // 8
        while len(self.got) >= size:
            frame, self.got = self.got[:size], self.got[size:]
            step = source.data_width // 8
            beats = [int.from_bytes(frame[k : k + step], "little") for k in range(0, size, step)]
            maps = Simulator(self.program)(source.frames(beats).astype(np.uint8))
            for k, entry in enumerate(self.manifest["outputs"]):  # type: ignore[arg-type, var-annotated]  # a list of them
                sink = Port.from_json(entry)
                packed = sink.pack(maps[sink.tensor].astype(np.int64))
                for n, beat in enumerate(packed):
                    tag = k | (LAST if n == len(packed) - 1 else 0)
                    self.out += bytes([tag]) + beat.to_bytes(sink.data_width // 8, "little")
        self.out += bytes([0x7F]) * (len(data) // 128 + 1)

    def read(self, count: int) -> bytes:
        found, self.out = bytes(self.out[:count]), self.out[count:]
        return found


def test_a_camera_is_looked_at_frame_by_frame(
    finder: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)  # B, G, R

    class Camera:
        left = 2

        def __init__(self, number: int) -> None:
            assert number == 1

        def read(self) -> tuple[bool, object]:
            Camera.left -= 1
            return Camera.left >= 0, frame

        def release(self) -> None:
            Camera.left = -9

    def imwrite(path: str, pixels: np.ndarray) -> None:
        Image.fromarray(pixels[:, :, ::-1]).save(path)

    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=Camera, imwrite=imwrite))
    manifest = intaglio.build(finder, board="ulx3s", lanes=12).manifest
    said: list[str] = []
    line = Echo(finder, manifest)
    with pytest.raises(DataError, match="Camera 1 must give pictures"):
        sight.watch(line, manifest, 300_000, 1, tmp_path / "seen", 0.3, 0.5, say=said.append)
    assert len(said) == 2
    assert Camera.left == -9, "the camera is given back"
    Image.fromarray(frame[:, :, ::-1]).save(tmp_path / "frame.png")
    record = sight.look_at(
        Echo(finder, manifest), manifest, 300_000, [tmp_path / "frame.png"], tmp_path / "seen",
        0.3, 0.5, say=said.append,
    )  # fmt: skip
    ours, theirs = (Image.open(tmp_path / f"seen/{n}.boxes.png") for n in ("camera", "frame"))
    assert ours.tobytes() == theirs.tobytes()
    assert record["images"] == 1
    assert issubclass(DataError, IntaglioError)


@pytest.mark.slow
def test_the_bundled_network_on_an_icebreaker(tmp_path: Path, cli: Cli) -> None:
    """By the lines of docs/hardware.md: quantised, its AP in integers, built, routed at the board's
    clock, its netlist with the PLL equal to the simulator; then pictures to that netlist."""
    needs_tools("yosys", "nextpnr-ice40", "icepack")
    needs("verilator")
    needs_boards()
    needs_serial()
    lines = [line.split() for line in board_lines() if line.startswith("intaglio ")]
    assert [line[1] for line in lines] == ["scenes", "scenes", "quantize", "build", "bitstream"]
    for _, *words in lines:
        options = ["--gates"] if words[0] == "bitstream" else []
        code, out, err = cli(*(word for word in words if word != "--load"), *options)
        assert code == 0, err
    assert "MHz met" in out
    assert f"then: {board_lines()[-1].partition(' --images')[0]}" in out
    folder = tmp_path / "build/digits"
    made = json.loads((folder / "manifest.json").read_text())
    assert (made["board"], made["clock_mhz"]) == ("icebreaker", 24)
    assert cli("scenes", "-o", "held-out", "--count", 300, "--side", 48)[0] == 0
    held = ("--images", "held-out/images", "--data", "held-out/scenes.json", "--json", "ap.json")
    assert cli("eval", "digits.intaglio", *held)[0] == 0
    assert json.loads((tmp_path / "ap.json").read_text())["ap50"] > 0.5
    shown = sorted((tmp_path / "pictures/images").iterdir())[:3]
    Image.open(shown[1]).resize((130, 90)).save(shown[1])
    code, _, err = cli("run", "digits.intaglio", *shown, "--resize", "--json", "run.json")
    assert code == 0, err
    with PtyBoard(folder, netlist=True) as board:
        done = started(folder, "--port", board.port, "--images", *shown, "--patience", 120,
                       "--json", tmp_path / "seen.json", "-o", tmp_path / "seen")  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = json.loads((tmp_path / "run.json").read_text())["detections"]
    assert json.loads((tmp_path / "seen.json").read_text())["detections"] == wanted
    assert sum(len(one["boxes"]) for one in wanted) > 2


def board_lines() -> list[str]:
    """The commands under "Your board in ten lines"."""
    text = (PACKAGE.parent / "docs/hardware.md").read_text(encoding="utf-8")
    section = text.partition("## Your board in ten lines\n")[2].partition("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]
