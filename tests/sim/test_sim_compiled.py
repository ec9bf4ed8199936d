"""Machine code that is kept on disk: used again, made anew where it is damaged or out of date."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import types

from intaglio.sim import compiled
from intaglio.sim.compiled import jit, ready

address_of: Any = vars(compiled.address_of)["__wrapped__"]
PAIR = (types.int64, types.int64)


@jit
def weighted(a: int, b: int) -> int:
    return 3 * a + b


@numba.njit()
def plain_sum(numbers: Any, start: int) -> Any:
    sums = np.empty(len(numbers), np.int64)  # Numba's runtime must be there for it
    sums[:] = numbers
    return start + sums.sum()


def call(address: int, *values: int) -> int:
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64 for _ in values))
    return int(kind(address)(*values))


@pytest.fixture(autouse=True)
def no_temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other processes have kept in theirs is not looked at."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("other")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: Any) -> None:
        raise AssertionError("compiled again")

    return lambda: monkeypatch.setattr(type(weighted), "compile", refuse)


def test_kept_code_runs_without_compiling(folder: Path, no_compiler: Callable[[], None]) -> None:
    first = address_of(weighted, PAIR)
    (file,) = folder.iterdir()
    assert file.name.startswith("test_sim_compiled.weighted-")
    no_compiler()
    again = address_of(weighted, PAIR)
    assert again != first
    assert call(first, 5, 7) == call(again, 5, 7) == 22


@pytest.mark.parametrize("content", [b"", b"no pickle", None])
def test_damaged_code_is_made_anew(folder: Path, content: bytes | None) -> None:
    address_of(weighted, PAIR)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert call(address_of(weighted, PAIR), 1, 1) == 4
    assert len(file.read_bytes()) == len(whole)


def test_an_edit_of_the_sources_compiles_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address_of(weighted, PAIR)
    monkeypatch.setattr(compiled, "sources", lambda: "edited")
    address_of(weighted, PAIR)
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    assert call(address_of(weighted, PAIR), 2, 2) == 8


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.folders() == [tmp_path / "intaglio"]
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without an entry
    assert compiled.folders(make=True) == []


def test_without_a_home_code_is_kept_in_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_compiler: Callable[[], None],
) -> None:
    (tmp_path / "home").write_text("in the way")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    compiled.tell.cache_clear()
    address_of(weighted, PAIR)
    private = tmp_path / f"intaglio-{os.getuid()}"
    assert capsys.readouterr().err == (
        f"intaglio: compiled code is kept in {private}. {tmp_path}/home/intaglio must be writable,"
        " not: Not a directory.\n"
    )
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    no_compiler()
    assert call(address_of(weighted, PAIR), 5, 7) == 22
    private.chmod(0o777)  # somebody else may have put code there
    assert compiled.folders() == [tmp_path / "home" / "intaglio"]


def test_a_function_of_arrays_runs_without_compiling(
    folder: Path, no_compiler: Callable[[], None]
) -> None:
    numbers = np.arange(6)
    assert ready(plain_sum, numbers, 2)(numbers, 2) == 17
    no_compiler()
    fresh = numba.njit()(plain_sum.py_func)  # as the next process has it
    assert ready(fresh, numbers, 3)(numbers, 3) == 18
    with pytest.raises(AssertionError, match="compiled again"):
        ready(fresh, numbers.astype(np.float64), 2)


def test_the_next_process_runs_what_was_kept(tmp_path: Path) -> None:
    """The token-time model, whose inner loop makes arrays of its own."""
    script = """
from networks import skip
from numba.core.dispatcher import Dispatcher
from intaglio.codegen.area.devices import device
from intaglio.codegen.folding.design import designed
compiled, compile = [], Dispatcher.compile
Dispatcher.compile = lambda self, types: (compiled.append(self.py_func), compile(self, types))[1]
print(designed(skip(), device("generic"), None, 40, 75.0).schedule.interval, len(compiled))
"""
    env = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path), PYTHONPATH=os.pathsep.join(sys.path))
    done = [
        subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
        for _ in range(2)
    ]
    first, again = (one.stdout.split() for one in done)
    assert first[0] == again[0], done
    assert int(first[1]) > 0
    assert again[1] == "0"
