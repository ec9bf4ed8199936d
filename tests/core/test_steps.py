"""The step log: its lines, its number of steps, times and memory; logs that fill as tools run."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from silence import all_steps_of, steps_of

from intaglio.errors import DataError
from intaglio.system import steps as steps_module
from intaglio.system.memory import family, used
from intaglio.system.processes import run_logged
from intaglio.system.steps import Steps, last_line, spoken

MIB = 1 << 20


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is looked at a hundred times as often."""
    for name in ("SOON", "OFTEN", "LOOK"):
        monkeypatch.setattr(steps_module, name, getattr(steps_module, name) / 100)


@given(st.lists(st.text("abc ", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=8))
def test_steps_are_as_many_as_was_said_and_those_that_failed_are_not_among_them(
    names: list[str],
) -> None:
    said: list[str] = []
    steps = Steps(said.append, after=names[1:])
    steps.plan(names[0])
    steps.plan("inside", "another")  # the outermost counts
    for name in names:
        with steps.step(name):
            pass
    assert all_steps_of(said) == names
    assert [took.name for took in steps.took] == names
    with pytest.raises(ValueError, match="broken"), steps.step("more"):
        raise ValueError("broken")
    assert len(steps.took) == len(names)


def test_a_long_step_says_how_far_it_is(quick: None) -> None:
    said: list[str] = []
    steps = Steps(said.append)
    steps.plan("folding", "rest")
    with steps.step("folding"):
        steps.tell("queues", 3, 41)
        time.sleep(0.4)
        steps.watch(lambda: "twelve beats")
        time.sleep(0.4)
    with steps.step("rest"):
        pass
    assert said[0].startswith("[1/2] folding: queues 3 of 41 \u2026 ")
    assert any(line.startswith("[1/2] folding: twelve beats \u2026 ") for line in said)
    assert steps_of(said) == ["folding", "rest"]
    first = steps.took[0]
    assert first.seconds >= 0.8
    assert 0.4 <= first.parts["queues"] <= first.seconds + 0.001


def test_what_comes_before_the_plan_is_not_silent(quick: None) -> None:
    said: list[str] = []
    with Steps(said.append):
        time.sleep(0.3)
    assert said
    assert all(line.startswith("starting \u2026 ") for line in said)


def test_nobody_to_tell_is_no_thread_and_no_line(
    quick: None, capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    steps = Steps()
    steps.plan("work")
    with steps.step("work"):
        assert threading.active_count() == before
        time.sleep(0.1)
    assert capfd.readouterr() == ("", "")
    assert [took.name for took in steps.took] == ["work"]


def test_the_memory_is_that_of_the_children_too(quick: None, tmp_path: Path) -> None:
    steps = Steps(lambda line: None)
    with steps.step("here"):
        held = bytearray(64 * MIB)
    with steps.step("less"):
        del held
    child = "import time; held = bytearray(96 << 20); print(1, flush=True); time.sleep(0.5)"
    with steps.step("there"):
        run_logged([sys.executable, "-c", child], tmp_path, tmp_path / "child.log")
    here, less, there = (took.peak_bytes for took in steps.took)
    assert here >= used() + 32 * MIB
    assert there >= used() + 96 * MIB
    assert less <= here
    steps.write(tmp_path / "steps.json")
    found = json.loads((tmp_path / "steps.json").read_text())["steps"]
    assert [row["name"] for row in found] == ["here", "less", "there"]
    assert [row["peak_bytes"] for row in found] == [here, less, there]
    steps.write(tmp_path / "child.log" / "steps.json")  # a record, for which nothing fails


def test_the_family_of_a_process() -> None:
    script = "import subprocess, sys; subprocess.run(['sleep', '5'])"
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        try:
            until = time.monotonic() + 20
            while len(family(child.pid)) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            assert len(family(child.pid)) == 2
        finally:
            for pid in reversed(family(child.pid)):
                subprocess.run(["kill", str(pid)], check=True)


def test_a_log_fills_while_the_program_runs(tmp_path: Path) -> None:
    log, go = tmp_path / "tool.log", tmp_path / "go"
    script = (
        "import os, sys, time\nprint('first', flush=True)\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "print('second', file=sys.stderr)\nsys.exit(3)"
    )
    seen: list[str] = []

    def look() -> None:
        until = time.monotonic() + 30
        while not seen and time.monotonic() < until:
            if last_line(log) == "first":
                seen.append(log.read_text().strip())
            time.sleep(0.01)
        go.touch()

    watcher = threading.Thread(target=look)
    watcher.start()
    code, printed = run_logged([sys.executable, "-c", script], tmp_path, log)
    watcher.join()
    assert seen == ["first"]
    assert code == 3
    assert printed == log.read_text() == "first\nsecond\n"


def test_a_log_that_cannot_be_written_stops_the_program(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/full must be writable, not: No space left"):
        run_logged([sys.executable, "-c", "print(1, flush=True)"], tmp_path, Path("/dev/full"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder must be writable"):
        run_logged(["true"], tmp_path, tmp_path / "folder")
    with pytest.raises(FileNotFoundError):
        run_logged([str(tmp_path / "absent")], tmp_path, tmp_path / "log")


@given(st.text(max_size=60), st.text(max_size=200))
def test_the_last_line_is_whole_or_says_that_it_is_not(before: str, line: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        assert last_line(log) == ""
        log.write_text(f"{before}\n{line}\n \n", encoding="utf-8", errors="replace", newline="")
        found = last_line(log)
    assert "\n" not in found
    assert len(found) <= steps_module.LONGEST
    if line.strip() and not any(c in line for c in "\r\n"):
        wanted = line.encode("utf-8", "replace").decode().strip()
        assert found == wanted or (found[-1] == "\u2026" and wanted.startswith(found[:-1]))


def test_seconds_have_the_digits_that_matter() -> None:
    assert [spoken(s) for s in (0.04, 9.94, 10.4, 283.2)] == ["0.0 s", "9.9 s", "10 s", "283 s"]
