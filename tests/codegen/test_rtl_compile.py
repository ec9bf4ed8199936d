"""The RTL as a function: the simulator's integers, the predicted cycles, pauses, refusals."""

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import tiny_detector
from networks import skip
from strategies import random_images
from tools import Cli, needs, refused

from intaglio.api import quantize
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.folder import verilated
from intaglio.codegen.running import library
from intaglio.codegen.running.compile import Function, load
from intaglio.errors import BuildError, DataError, ToolError
from intaglio.file import save
from intaglio.hdl.pack import frame_beats, frames_words, words_frames
from intaglio.ops import Ints
from intaglio.sim.engine import Simulator
from intaglio.system.steps import Tell

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("verilator")]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(skip(), lanes=40)


@pytest.fixture(scope="module")
def rtl(bundle: Bundle) -> Function:
    needs("verilator")
    return bundle.compile(threads=2)


@pytest.mark.parametrize("options", [(), ("--vpi",)], ids=["library", "bench"])
def test_what_is_compiled_early_is_what_verilator_asks_for(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    needs("verilator")
    (tmp_path / "m.v").write_text(
        "module m(input wire a, output wire b);\nassign b = ~a;\nendmodule\n"
    )
    environment = dict(os.environ)
    command, _ = verilated.verilator(environment)
    words = [*command, "--cc", "--prefix", "Vm", *options, "-Mdir", "obj", "m.v"]
    verilated.run(words, tmp_path, environment)
    assert set(verilated.always(options)) == set(verilated.own_files(tmp_path))


def test_it_equals_the_simulator_with_and_without_pauses(rtl: Function) -> None:
    images = random_images(skip(), 7, 3)
    want = Simulator(skip())(images)
    for stalls in (None, 0, 5):
        got = rtl(images, stalls=stalls)
        assert got.keys() == want.keys()
        for name, array in want.items():
            assert got[name].dtype == array.dtype
            assert np.array_equal(got[name], array)
    for a, b in zip(rtl.run_dequantised(images), Simulator(skip()).run_dequantised(images),
                    strict=True):  # fmt: skip
        assert np.array_equal(a, b)
    assert rtl(images[:0])["out0"].shape == (0, *skip().outputs[0].shape)


def test_its_cycles_are_the_predicted_ones(bundle: Bundle, rtl: Function) -> None:
    cycles = rtl.measure(4)
    assert list(cycles.finished) == bundle.manifest["frame_ends"]
    assert cycles.interval == bundle.manifest["cycles_per_frame"]
    assert cycles.latency == bundle.manifest["latency_cycles"]
    assert {n: first[0] for n, first in cycles.first.items()} == bundle.manifest["first_outputs"]
    assert cycles.taken[0] == 1
    assert 1 < cycles.first["out0"][0] < cycles.last["out0"][0] == cycles.latency
    assert cycles.latencies[0] == cycles.latency - 1
    slower = rtl.measure(4, stalls=1)
    assert slower.finished[-1] > cycles.finished[-1]
    assert rtl.measure(4, stalls=1) == slower
    assert rtl.measure(4, stalls=2) != slower
    assert rtl.measure(1).interval is None


def test_a_build_folder_is_compiled_once_and_reads_its_roms(bundle: Bundle, tmp_path: Path) -> None:
    needs("verilator")
    bundle.write(tmp_path / "b")
    images = random_images(skip(), 2, 1)
    first = load(tmp_path / "b", folder=tmp_path / "kept")
    want = first(images)
    (compiled,) = (tmp_path / "kept").glob("*/function.so")
    made = compiled.stat().st_mtime_ns
    assert np.array_equal(load(tmp_path / "b", folder=tmp_path / "kept")(images)["out0"],
                          want["out0"])  # fmt: skip
    copy = pickle.loads(pickle.dumps(first.run_dequantised))  # as another process gets it
    for a, b in zip(copy(images), first.run_dequantised(images), strict=True):
        assert np.array_equal(a, b)
    assert compiled.stat().st_mtime_ns == made
    rom = tmp_path / "b" / "rom" / "stem_conv_weights.hex"
    lines = rom.read_text().splitlines()
    lines[0] = f"{int(lines[0], 16) ^ 8:0{len(lines[0])}x}"  # a weight's sign
    rom.write_text("\n".join(lines) + "\n")
    assert not np.array_equal(load(tmp_path / "b", folder=tmp_path / "kept")(images)["out0"],
                              want["out0"])  # fmt: skip


def test_a_design_is_found_again_and_never_another(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of its files or of the tools changes, it is compiled anew."""
    made: list[Path] = []

    def fake(sources: Mapping[str, bytes], place: Path, work: Path, tell: Tell) -> None:
        made.append(place)
        (place / library.LIBRARY).write_bytes(b"machine code")

    monkeypatch.setattr(library, "make_library", fake)
    monkeypatch.setattr(library, "check_compilers", lambda: None)
    first = library.compiled(bundle, tmp_path)
    assert library.compiled(bundle, tmp_path) == first
    assert made == [first.parent]
    used = [*library.SOURCES, *(path for path in bundle.files if path.startswith("rom/"))]
    for path in used:
        changed = replace(bundle, files={**bundle.files, path: bundle.files[path] + b"\n"})
        library.compiled(changed, tmp_path)
        library.compiled(bundle, tmp_path)
    assert len(made) == len(set(made)) == 1 + len(used)
    for tools in (("Verilator 5.1", "g++ 12"), ("Verilator 5.0", "g++ 13"), ("", "")):
        monkeypatch.setattr(library, "toolchain", lambda tools=tools: tools)
        library.compiled(bundle, tmp_path)
    assert len(set(made)) == 4 + len(used)


def test_what_cannot_be_used_is_refused(
    bundle: Bundle, rtl: Function, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"^Images must have the shape \(N, 3, 9, 11\), not"):
        rtl(np.zeros((1, 3, 9, 12), dtype=np.uint8))
    with pytest.raises(DataError, match=r"^stalls must be a seed from 0 to .*, not -1\.$"):
        rtl(random_images(skip(), 1, 0), stalls=-1)
    with pytest.raises(DataError, match=r"^threads must be at least 1, not 0\.$"):
        bundle.compile(threads=0)
    with pytest.raises(DataError, match=r"^frames must be at least 1, not 0\.$"):
        rtl.measure(0)
    broken = dict(bundle.files)
    broken["rtl/top.v"] += b"module\n"
    with pytest.raises(ToolError, match=r"^verilator must compile the design, but stopped: "):
        replace(bundle, files=broken).compile(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(ToolError, match=r"^g\+\+ must be installed to compile: apt-get install"):
        bundle.compile(tmp_path / "none")


@pytest.mark.parametrize(
    ("tvalid", "words"),
    [
        (0, "{name} must deliver every beat, but frame 0 stopped: no beat anywhere for "),
        (1, "{name}_tlast must be 1 on the last beat of a frame alone, but is wrong on 2 beats; "),
    ],
)
def test_a_design_that_stops_or_forgets_tlast_is_named(
    bundle: Bundle, tvalid: int, words: str
) -> None:
    needs("verilator")
    source, (sink,) = bundle.manifest["input"], bundle.manifest["outputs"]
    design = f"""
module top(input wire clk, input wire rst,
  input wire [{source["data_width"] - 1}:0] {source["name"]}_tdata,
  input wire {source["name"]}_tvalid, input wire {source["name"]}_tlast,
  output wire {source["name"]}_tready,
  output wire [{sink["data_width"] - 1}:0] {sink["name"]}_tdata,
  output wire {sink["name"]}_tvalid, output wire {sink["name"]}_tlast,
  input wire {sink["name"]}_tready, output wire frame_error);
  assign frame_error = 1'b0;
  assign {source["name"]}_tready = 1'b1;
  assign {sink["name"]}_tdata = 0;
  assign {sink["name"]}_tvalid = 1'b{tvalid};
  assign {sink["name"]}_tlast = 1'b0;
endmodule
"""
    files = {**bundle.files, "rtl/top.v": design.encode()}
    with pytest.raises(BuildError) as error:
        replace(bundle, files=files).compile(threads=1)(random_images(skip(), 2, 0))
    assert str(error.value).startswith(words.format(name=sink["name"]))


@given(st.data(), st.integers(1, 6), st.integers(1, 17), st.booleans())
def test_words_hold_the_beats(data: st.DataObject, lanes: int, bits: int, signed: bool) -> None:
    shape = tuple(data.draw(st.integers(1, 7)) for _ in range(3))
    lo = -(1 << (bits - 1)) if signed else 0
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    frames: Ints = rng.integers(lo, lo + (1 << bits), (2, *shape))
    words = frames_words(frames, lanes, bits)
    for frame, rows in zip(frames, words, strict=True):
        beats = [sum(int(w) << (32 * k) for k, w in enumerate(row)) for row in rows]
        assert beats == frame_beats(frame, lanes, bits)
    assert np.array_equal(words_frames(words, shape, lanes, bits, signed), frames)


@pytest.mark.slow
def test_ap_from_rtl_is_the_simulators(cli: Cli, tmp_path: Path) -> None:
    """A small detector, untrained: every score and box must be the same, so AP is too."""
    needs("verilator")
    assert cli("scenes", "data", "--count", 4, "--size", 32)[0] == 0
    data = ("--data", "data/scenes.json", "--images", "data/images")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    save(quantize(tiny_detector(), images, wbits=4, abits=4), tmp_path / "tiny.intaglio")
    assert cli("build", "tiny.intaglio", "-o", "b", "--target", "generic")[0] == 0
    found = {}
    for engine in ("sim", "rtl"):
        code, _, err = cli("eval", "b", *data, "--engine", engine, "--json", "ap.json")
        assert code == 0, err
        found[engine] = json.loads((tmp_path / "ap.json").read_text())
    assert found["sim"]["ap50"] > 0
    for key in ("ap", "ap50", "ap75", "images"):
        assert found["sim"][key] == found["rtl"][key]
    refused(
        cli("eval", "tiny.intaglio", *data, "--engine", "rtl"),
        "--engine rtl must have a folder written by `intaglio build`, not tiny.intaglio.",
    )
