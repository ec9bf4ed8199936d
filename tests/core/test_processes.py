"""The environment of programs that intaglio starts, and that all of them get it."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tools import stock_path

from intaglio.system import processes
from intaglio.system.processes import complaint, environment, find_program, for_libraries

PACKAGE = Path(processes.__file__).parent.parent
STARTS = {"run", "Popen", "call", "check_call", "check_output"}


def starts(path: Path) -> list[ast.Call]:
    """The calls of a source file that start a program."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and ((node.func.value.id == "subprocess" and node.func.attr in STARTS)
             or (node.func.value.id == "os" and node.func.attr in ("system", "popen")))
    ]  # fmt: skip


def test_every_program_starts_in_this_environment() -> None:
    calls = {path: starts(path) for path in PACKAGE.rglob("*.py")}
    assert sum(map(len, calls.values())) >= 5
    for path, found in calls.items():
        for call in found:
            given = {keyword.arg for keyword in call.keywords}
            assert "env" in given, f"{path}, line {call.lineno}, must pass env=environment()"


def test_programs_of_this_installation_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", stock_path(tmp_path / "bin"))
    assert shutil.which("python") is None
    beside = Path(sys.executable).parent
    if (beside / "python").exists():  # of a virtual environment
        assert find_program("python") == str(beside / "python")
        done = subprocess.run(
            ["python", "-c", "import sys; print(sys.prefix)"],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == sys.prefix
    monkeypatch.delenv("PATH")
    assert environment()["PATH"].split(os.pathsep)[0] == str(beside)
    assert find_program("sh") is not None


def test_what_cannot_be_kept_at_home_is_kept_in_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert environment()["XDG_CACHE_HOME"] == str(tmp_path / "home")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    private = tmp_path / f"intaglio-{os.getuid()}"
    assert environment()["XDG_CACHE_HOME"] == str(private)
    assert environment().get("HOME") == os.environ.get("HOME")
    with monkeypatch.context() as nobody:  # a user without an entry, as in a container
        nobody.delenv("HOME", raising=False)
        nobody.setattr(os.path, "expanduser", lambda path: path)
        assert environment()["HOME"] == environment()["XDG_CACHE_HOME"] == str(private)
    path = os.environ["PATH"]
    with for_libraries():
        assert os.environ["XDG_CACHE_HOME"] == str(private)
        assert os.environ["PATH"] != path
    assert os.environ["PATH"] == path
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "file")


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("", "no message"),
        ("Traceback (most recent call last):\n  raise Error(x)\nError: why\n", "Error: why"),
        ("one\n\n  two  \n", "two"),
        ("g++ -c x.cc\nx.cc:1: error: no\nmake: Error 1\n", "x.cc:1: error: no"),
    ],
)
def test_the_line_that_says_most(printed: str, says: str) -> None:
    assert complaint(printed) == says
