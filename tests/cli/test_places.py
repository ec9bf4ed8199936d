"""Nothing of a user's is lost: where results of every command may go, and where they may not."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import skip
from PIL import Image
from tools import Cli, namespace, refused

from intaglio.file import save

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
UNLOCKED = "-dac_override,-dac_read_search"  # what lets root write everywhere


def environment() -> dict[str, str]:
    """Of a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS), *sys.path])}


def trials(folder: Path, kind: str, count: int, seed: int) -> Any:
    """What place_trials.py found."""
    (folder / "small").mkdir()
    command = (sys.executable, TESTS / "place_trials.py", kind, folder, count, seed)
    mounts = f"mount -t tmpfs -o size=4m none '{folder}/small'"
    locked = f'{mounts}\nexec setpriv --bounding-set={UNLOCKED} "$@"'
    done = subprocess.run(
        [*namespace(), "sh", "-ec", locked, "sh", *map(str, command)], env=environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(found["kinds"].values()) == count
    return found


def test_thirty_results_to_places_of_all_kinds(tmp_path: Path) -> None:
    found = trials(tmp_path, "quick", 30, 1)
    assert found["wrong"] == []
    assert set(found["codes"]) == {"0", "2", "129", "130", "143"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_six_hundred_results_to_places_of_all_kinds(tmp_path: Path, seed: int) -> None:
    found = trials(tmp_path, "all", 150, seed)
    assert found["wrong"] == []
    assert set(found["codes"]) == {"0", "2", "129", "130", "143"}
    assert len(found["kinds"]) > 120


def test_every_command_is_tried() -> None:
    from place_trials import others, quick

    from intaglio.cli.verb import ORDER

    tried = {command.words[0] for command in quick(Path()) + others(Path())}
    assert tried | {"demo"} == set(ORDER)


def test_a_demo_is_no_guest_in_a_folder_with_other_things(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("a thesis")
    refused(
        cli("demo", "-o", "mine"),
        "-o mine must be a new folder or an earlier demo, not something else; choose another or"
        " remove it.",
    )
    assert cli("scenes", "-o", "demo/held-out", "--count", 1, "--side", 32)[0] == 0
    save(skip(), tmp_path / "net.intaglio")
    build = ("build", "net.intaglio", "--target", "generic", "--multipliers", 40)
    assert cli(*build, "-o", "demo/build")[0] == 0
    (tmp_path / "demo/build/bitstream").mkdir()
    (tmp_path / "demo/build/bitstream/board.bit").write_bytes(b"hours")
    refused(
        cli("demo"),
        "-o demo must be a folder that may be replaced, not an earlier demo with bitstream/ in its"
        " build; choose another, or replace it with --force.",
    )
    assert (tmp_path / "demo/build/bitstream/board.bit").read_bytes() == b"hours"


START = (
    "import sys; from intaglio.cli import main; print('go', file=sys.stderr, flush=True);"
    " sys.exit(main())"
)


def interruptions(folder: Path, count: int, seed: int) -> None:
    """Commands in processes of their own, stopped at random moments: while they import, work, write
    or end."""
    rng = random.Random(seed)
    save(skip(), folder / "net.intaglio")
    command = [sys.executable, "-c", START, "info", "net.intaglio", "--json", "kept.json"]
    length, codes = 0.0, set()
    for n in range(count + 1):
        (folder / "kept.json").write_text('{"old": true}')
        with subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            assert process.stderr.read(3) == b"go\n"
            started, number = time.monotonic(), rng.choice([signal.SIGINT, signal.SIGTERM])
            if n:
                time.sleep(rng.uniform(0.005, 1.1 * length))
                process.send_signal(number)
            _, err = process.communicate()
        length = length or time.monotonic() - started
        old = json.loads((folder / "kept.json").read_text()) == {"old": True}
        if process.returncode == 128 + number:
            assert err == b"intaglio: interrupted.\n"
        else:  # too late: it was done, and Python about to end
            assert process.returncode in (0, -number)
            assert (err, old) == (b"", False)
        assert {path.name for path in folder.iterdir()} == {"net.intaglio", "kept.json"}
        codes.add(process.returncode)
    assert codes & {130, 143}


def test_a_command_is_interrupted_at_any_moment(tmp_path: Path) -> None:
    interruptions(tmp_path, 5, 3)


@pytest.mark.slow
def test_a_command_is_interrupted_at_many_moments(tmp_path: Path) -> None:
    interruptions(tmp_path, 60, 4)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two pictures that fit `skip`, and the network, in the folder where commands run."""
    save(skip(), tmp_path / "net.intaglio")
    _, height, width = skip().inputs[0].shape
    rng = np.random.default_rng(4)
    for name in ("cat.png", "dog.png"):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_results_beside_the_pictures_leave_them_alone(cli: Cli, photographs: Path) -> None:
    pictures = {path: path.read_bytes() for path in photographs.glob("*.png")}
    (photographs / "cat.npz").write_bytes(b"labels")
    assert cli("run", "net.intaglio", "cat.png", "dog.png", "--raw", "-o", ".")[0] == 0
    assert {path.name for path in photographs.glob("*.npz")} == {
        "cat.npz", "cat.maps.npz", "dog.maps.npz",
    }  # fmt: skip
    assert (photographs / "cat.npz").read_bytes() == b"labels"
    assert {path: path.read_bytes() for path in pictures} == pictures


def test_drawings_are_named_as_no_picture_is(cli: Cli, tmp_path: Path) -> None:
    """A second run over everything in the folder takes the drawings for pictures, and is told."""
    pytest.importorskip("torch")
    from models import tiny_detector

    from intaglio.quant import quantize

    rng = np.random.default_rng(6)
    images = rng.integers(0, 256, (2, 3, 32, 32), np.uint8)
    save(quantize(tiny_detector(), images).program, tmp_path / "det.intaglio")
    for name, image in zip(("a.png", "b.png"), images, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert cli("run", "det.intaglio", "a.png", "b.png", "-o", ".")[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    drawn = {path: path.read_bytes() for path in tmp_path.glob("*.boxes.png")}
    assert {path.name for path in drawn} == {"a.boxes.png", "b.boxes.png"}
    every = sorted(path.name for path in tmp_path.glob("*.png"))
    refused(
        cli("run", "det.intaglio", *every, "--resize", "-o", "."),
        "-o must be a file of its own, not a.boxes.png, which is read; give it another name.",
    )
    assert {path: path.read_bytes() for path in [*before, *drawn]} == before | drawn


def test_maps_of_any_name_are_written(cli: Cli, photographs: Path) -> None:
    """Also of names that numpy.savez takes for settings of its own."""
    program = skip()
    text = {"out0": "file", "sum": "allow_pickle"}
    ops = tuple(
        replace(op, **{f.name: text.get(v, v) for f in fields(op)
                       if isinstance(v := getattr(op, f.name), str)})
        for op in program.ops
    )  # fmt: skip
    tensors = {text.get(n, n): replace(t, name=text.get(n, n)) for n, t in program.tensors.items()}
    save(replace(program, ops=ops, tensors=tensors).verify(), photographs / "odd.intaglio")
    assert cli("run", "odd.intaglio", "cat.png", "--raw", "-o", "raw")[0] == 0
    assert cli("run", "net.intaglio", "cat.png", "--raw", "-o", "plain")[0] == 0
    odd, plain = (np.load(photographs / folder / "cat.maps.npz") for folder in ("raw", "plain"))
    assert list(odd) == ["file"]
    assert np.array_equal(odd["file"], plain["out0"])


def test_a_place_is_refused_before_the_work_and_made_before_it(cli: Cli, photographs: Path) -> None:
    """What is asked for could not be done: that is said only where there is a place for it."""
    (photographs / "file").write_text("a user's")
    before = {path.name for path in photographs.iterdir()}
    images = ("--images", ".")
    data = ("--data", "absent.json")
    works: tuple[tuple[object, ...], ...] = (
        ("quantize", "no.such:thing", *images),
        ("train", "no.such:thing", *images, *data),
        ("import", "absent.onnx"),
        ("report", "absent.intaglio"),
        ("trace", "absent.intaglio", "cat.png"),
        ("build", "absent.intaglio"),
        ("golden", "absent.intaglio"),
    )
    for words in works:
        refused(cli(*words, "-o", "file/x"), "intaglio: file", "must be a folder that can be made")
        refused(cli(*words, "-o", "new/x"), "must be", "existing" if "absent" in words[1] else "")
        assert {path.name for path in photographs.iterdir()} == before
    refused(cli("export", "absent.intaglio", "-o", "file/x.onnx"), "file must be a folder")


def test_what_took_long_is_kept_unless_it_is_forced(cli: Cli, photographs: Path) -> None:
    build = ("build", "net.intaglio", "--target", "generic", "--multipliers", 40, "-o", "b")
    assert cli(*build)[0] == 0
    assert cli(*build)[0] == 0
    for name in ("bitstream/board.bin", "sim/verilator.log"):
        (photographs / "b" / name).parent.mkdir()
        (photographs / "b" / name).write_bytes(b"hours")
    refused(
        cli(*build),
        "-o b must be a folder that may be replaced, not an earlier build with bitstream/ and sim/;"
        " choose another, or replace it with --force.",
    )
    assert (photographs / "b/bitstream/board.bin").read_bytes() == b"hours"
    refused(
        cli("bitstream", "b"),
        "b/bitstream must be a folder that may be replaced, not one with the bitstream board.bin;"
        " move it away, or replace it with --force.",
    )
    assert cli(*build, "--force")[0] == 0
    assert {path.name for path in (photographs / "b").iterdir()} & {"bitstream", "sim"} == set()

    made = {"aqd": "that was trained", "detptq": "that was searched for"}
    for method, words in made.items():
        how = {"method": method, "reconstruct": None, "budgets": []}
        save(replace(skip(), meta={"quantisation": how}), photographs / "long.intaglio")
        kept = (photographs / "long.intaglio").read_bytes()
        for command in (("import", "absent.onnx"), ("quantize", "no:thing", "--images", ".")):
            refused(
                cli(*command, "-o", "long.intaglio"),
                f"-o must be a file that may be replaced, not long.intaglio, a Program {words};"
                " choose another, or replace it with --force.",
            )
        refused(cli("info", "net.intaglio", "--json", "long.intaglio"), "or remove it")
        assert (photographs / "long.intaglio").read_bytes() == kept


def test_the_onnx_file_that_a_program_came_from_is_no_place_for_it(
    cli: Cli, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    from every_command import pooled

    pooled(tmp_path / "net.onnx")
    before = (tmp_path / "net.onnx").read_bytes()
    assert cli("import", "net.onnx", "--no-check", "-o", "net.intaglio")[0] == 0
    export = ("export", "net.intaglio", "--check", 0, "-o")
    refused(cli(*export, "net.onnx"), "must be a new file or ONNX of intaglio's own, not net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert cli(*export, "again.onnx")[0] == cli(*export, "again.onnx")[0] == 0


def test_scenes_are_no_guests_in_a_folder_with_other_things(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    assert cli("scenes", "-o", "data", "--count", 3, "--side", 32)[0] == 0
    assert cli("scenes", "-o", "data", "--count", 2, "--side", 32)[0] == 0
    assert len(list((tmp_path / "data/images").iterdir())) == 2
    (tmp_path / "data/images/holiday.png").write_bytes(b"mine")
    refused(
        cli("scenes", "-o", "data", "--count", 1, "--side", 32),
        "-o data must be a new folder or a folder of scenes alone, not something else; choose"
        " another or remove it.",
    )
    assert len(list((tmp_path / "data/images").iterdir())) == 3


def test_one_result_through_a_pipe_while_people_read_the_tables(
    cli: Cli, photographs: Path
) -> None:
    code, out, err = cli("info", "net.intaglio", "--json", "-")
    assert code == 0
    assert json.loads(out)["rows"]
    assert "stem" in err
    code, out, err = cli("report", "net.intaglio", "-o", "/dev/stdout", "--json", "made.json")
    assert code == 0
    assert out.lower().startswith("<!doctype html")
    assert err.startswith("wrote /dev/stdout")
    piped = subprocess.run(
        [sys.executable, "-c", START, "export", "net.intaglio", "--check", "0", "-o", "-"],
        cwd=photographs, env=environment(), capture_output=True,
    )  # fmt: skip
    assert cli("export", "net.intaglio", "--check", 0, "-o", "net.onnx")[0] == 0
    assert piped.stdout == (photographs / "net.onnx").read_bytes()
    refused(cli("info", "net.intaglio", "--json", "/dev/full"), "/dev/full must be writable, not:"
            " No space left on device.")  # fmt: skip
    assert not (photographs / "-").exists()


def test_files_have_the_modes_that_the_user_gives(cli: Cli, photographs: Path) -> None:
    before = os.umask(0o022)
    try:
        for words in (
            ("trace", "net.intaglio", "cat.png", "-o", "trace", "--json", "t.json"),
            ("run", "net.intaglio", "cat.png", "--raw", "-o", "raw"),
            ("report", "net.intaglio"),
            ("build", "net.intaglio", "--target", "generic", "--multipliers", 40, "-o", "b"),
            ("golden", "net.intaglio", "--check", 0, "-o", "c"),
        ):
            assert cli(*words)[0] == 0
        save(skip(), photographs / "new.intaglio")
    finally:
        os.umask(before)
    for path in photographs.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), (path, oct(mode))
