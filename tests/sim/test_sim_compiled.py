"""Machine code that is kept on disk: used again, made anew where it is damaged or out of date."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import types

from intaglio.sim import compiled
from intaglio.sim.compiled import jit

address_of: Any = vars(compiled.address_of)["__wrapped__"]
PAIR = (types.int64, types.int64)


@jit
def weighted(a: int, b: int) -> int:
    return 3 * a + b


def call(address: int, *values: int) -> int:
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64 for _ in values))
    return int(kind(address)(*values))


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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.cache_folder() == tmp_path / "intaglio"
