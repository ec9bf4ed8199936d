"""Bundles: deterministic bytes, whole folders, plain Verilog names, refusals."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import Layers, pyramid, skip
from strategies import random_images

from intaglio.codegen.area.devices import DEVICES
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.structure.ports import Port
from intaglio.codegen.structure.verilog import plain_names
from intaglio.errors import BuildError, DataError
from intaglio.fixed import IntType


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(pyramid(), lanes=80)


def test_equal_programs_give_equal_bytes(bundle: Bundle) -> None:
    assert build(pyramid(), lanes=80).files == bundle.files


def test_another_weight_gives_another_digest() -> None:
    one = build(skip()).manifest
    net = Layers((3, 9, 11), seed=5)
    stem = net.conv("stem", "image", net.weights("w0", 5, 3, 3), stride=2)
    branch = net.conv("branch", stem, net.weights("w1", 5, 5, 3))
    other = build(net.finish([net.add("sum", stem, branch)])).manifest
    assert one["program"] != other["program"]
    assert one["cycles_per_frame"] == other["cycles_per_frame"]


def test_the_manifest_knows_every_other_file(bundle: Bundle) -> None:
    digests = {p: hashlib.sha256(d).hexdigest() for p, d in bundle.files.items()}
    digests.pop("manifest.json")
    assert bundle.manifest["files"] == digests
    wanted = {"rtl/top.v", "rtl/intaglio_rom.v", "program.intaglio", "bench/bench.v",
              "bench/test_top.py", "bench/run.py", "bench/stimulus.hex", "scripts/build.sh",
              "constraints/top.lpf", "rom/stem_conv_weights.hex"}  # fmt: skip
    assert wanted <= set(digests)


def test_the_report_has_the_promised_fields(bundle: Bundle) -> None:
    report = bundle.report()
    assert {"target", "fps", "cycles_per_frame", "resources", "layers"} <= set(report)
    for row in report["layers"]:
        assert {"name", "op", "pe", "simd", "cycles", "multipliers", "rom_bits",
                "fifo_depths"} <= set(row)  # fmt: skip
    assert report["fps"] == pytest.approx(75e6 / report["cycles_per_frame"])
    json.dumps(report)
    assert re.search(r", set by [\w.]+; \d+ multipliers", bundle.summary())


def test_odd_weights_take_their_code_bits_of_rom() -> None:
    """One network twice: its weights of 3 bits declared odd, with 2 code bits, or not."""
    odd = skip(odd=(2,))
    plain = replace(odd, constants={n: replace(c, odd=False) for n, c in odd.constants.items()})
    narrow, wide = build(odd, lanes=60), build(plain, lanes=60)
    rows = [
        row for row in zip(narrow.manifest["layers"], wide.manifest["layers"], strict=True)
        if row[0]["op"] == "conv"
    ]  # fmt: skip
    assert len(rows) == 2
    for a, b in rows:
        name = f"rom/{a['name']}_conv_weights.hex"
        lanes = a["pe"] * a["simd"]
        words = len(narrow.files[name].split())
        assert len(wide.files[name].split()) == words
        assert max(int(line, 16) for line in narrow.files[name].split()) < 1 << 2 * lanes
        assert b["rom_bits"] - a["rom_bits"] == lanes * words
    assert narrow.manifest["cycles_per_frame"] == wide.manifest["cycles_per_frame"]
    assert narrow.manifest["program"] != wide.manifest["program"]


def test_verilog_has_neither_escaped_names_nor_paths(bundle: Bundle) -> None:
    text = bundle.files["rtl/top.v"].decode()
    assert "\\" not in text
    assert str(Path.cwd()) not in text
    ports = re.search(r"module top\((.*?)\);", text, re.S)
    assert ports is not None
    assert "m_axis_out0_tdata" in ports[1]


def test_escaped_names_become_plain_and_stay_apart() -> None:
    text = "wire \\a[3] ; wire a_3; wire \\repeat ; wire \\a.3 ; assign \\a[3] = a_3;\n"
    assert plain_names(text) == (
        "wire a_3_2 ; wire a_3; wire n_repeat ; wire a_3_3 ; assign a_3_2 = a_3;\n"
    )


def test_write_is_whole_and_replaces_an_older_build(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "build"
    bundle.write(folder)
    (folder / "steps.json").write_text("how long it took")
    bundle.write(folder)
    assert not (folder / "steps.json").exists()
    (folder / "bitstream").mkdir()
    (folder / "bitstream" / "board.bin").write_bytes(b"hours")
    (folder / "rtl" / "top.v").write_text("// mended by hand")
    (folder / "stale.txt").write_text("old")
    with pytest.raises(BuildError) as error:
        bundle.write(folder)
    assert str(error.value) == (
        f"{folder} must be a folder that may be replaced, not an earlier build with bitstream/, a"
        " changed rtl/top.v and others; choose another, or replace it with --force."
    )
    assert (folder / "bitstream" / "board.bin").read_bytes() == b"hours"
    bundle.write(folder, force=True)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == dict(bundle.files)
    assert [p.name for p in folder.parent.iterdir()] == ["build"]


def test_write_leaves_other_folders_alone(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BuildError) as error:
        bundle.write(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} must be a new folder or an earlier build, not something else; choose another"
        " or remove it."
    )
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failing_write_leaves_nothing(tmp_path: Path) -> None:
    broken = Bundle({"a": b"1", "a/b": b"2"})  # a file where a folder is needed
    with pytest.raises(BuildError, match=r"must be writable, not: "):
        broken.write(tmp_path / "build")
    assert list(tmp_path.iterdir()) == []


def test_the_rate_asked_for_is_met_with_fewer_multipliers() -> None:
    slow, fast = build(pyramid(), fps=5_000), build(pyramid(), fps=20_000)
    assert slow.manifest["fps"] >= 5_000
    assert fast.manifest["fps"] >= 20_000
    assert slow.manifest["multipliers"] < fast.manifest["multipliers"]


def test_a_rate_beyond_the_multipliers_is_refused() -> None:
    with pytest.raises(BuildError) as error:
        build(pyramid(), fps=20_000, lanes=40)
    assert re.fullmatch(
        r"fps must be lower than 20000 with 40 multipliers: it takes (\d+), and layer '[\w.]+' is"
        r" the slowest; build with --multipliers \1\.",
        str(error.value),
    )


def test_unknown_targets_are_refused_with_the_names() -> None:
    with pytest.raises(BuildError) as error:
        build(skip(), target="ecp6")
    assert str(error.value) == f"The target must be one of {', '.join(DEVICES)}, not 'ecp6'."


def test_weights_too_many_for_the_target_are_refused() -> None:
    net = Layers((16, 4, 4))
    wide = net.conv("wide", "image", net.weights("w0", 96, 16, 3))
    x = net.conv("huge", wide, net.weights("w1", 96, 96, 3))
    with pytest.raises(BuildError) as error:
        build(net.finish([x]), target="ice40-up5k")
    assert str(error.value) == (
        "The weights must fit into the 122,880 bits of block RAM of ice40-up5k, not take 387,072;"
        " build with --target gowin-gw1nr-9c."
    )


def test_a_design_too_large_for_the_target_is_refused() -> None:
    with pytest.raises(BuildError) as error:
        build(pyramid(), target="ice40-up5k", lanes=400)
    assert re.fullmatch(
        r"ice40-up5k must have at least [\d,]+ logic cells free for the convolutions, not [\d,]+:"
        r" layer '[\w.]+' takes [\d,]+; build with --target xc7a35t\.",
        str(error.value),
    )


def test_wrong_stimulus_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"must have the shape \(N, 3, 9, 11\), not \(1, 3, 9, 12\)"
    ):
        build(skip(), images=np.zeros((1, 3, 9, 12), dtype=np.uint8))


def test_stimulus_must_hold_a_frame() -> None:
    with pytest.raises(BuildError, match=r"^images must hold at least one frame of stimulus"):
        build(skip(), images=np.zeros((0, 3, 9, 11), dtype=np.uint8))


def test_the_name_is_that_of_the_module_and_must_be_an_identifier() -> None:
    assert "module detector(" in build(skip(), name="detector").files["rtl/top.v"].decode()
    with pytest.raises(BuildError) as error:
        build(skip(), name="my-top")
    assert str(error.value) == "The name must be a Verilog identifier, not 'my-top'."


def test_every_target_gets_constraints_or_a_script() -> None:
    for name in DEVICES:
        files = build(skip(), target=name, fps=1_000).files
        assert any(path.startswith("scripts/") for path in files), name


def test_ports_unpack_what_they_pack() -> None:
    port = Port("m", "t", "", (5, 2, 3), IntType(3, True), 2)
    frames = random_images(skip(), 1, 0)[:, :1] % 8 - 4
    frame = np.resize(frames, (1, 5, 2, 3))
    beats = port.pack(frame)
    assert len(beats) == port.beats == 18
    values = np.array([port.unpack(b) for b in beats]).reshape(2, 3, 6)[:, :, :5]
    assert np.array_equal(values.transpose(2, 0, 1), frame[0])
    assert port.locate(18 + 7) == (1, 2, 0, 2)
    assert port.masks() == [0b11111111, 0b11111111, 0b11000111]


def test_a_manifest_of_something_else_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(BuildError, match="must be a new folder or an earlier build"):
        bundle.write(web)
    assert (web / "manifest.json").read_text() == '{"name": "an app"}'
