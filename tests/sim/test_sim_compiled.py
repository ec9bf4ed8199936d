"""Machine code of kernels: kept on disk and used again, made anew where it is damaged or out of
date, by several processes, and loaded without Numba."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.sim import compiled
from intaglio.sim.code import emitting, kernel, sharing, store
from intaglio.sim.compiled import Pointer, jit, made_ready, ready
from intaglio.system.steps import Steps

Pair = namedtuple("Pair", ["x", "y"])


@jit
def weighted(a: int, b: int) -> int:
    return 3 * a + b


@jit
def doubled(a: int) -> int:
    return 2 * a


@jit
def both(a: int, b: int) -> int:
    return doubled(weighted(a, b))


@jit
def unknown(a: int) -> int:
    return a.nothing  # type: ignore[attr-defined,no-any-return]  # what is tested


@numba.njit()
def plain_sum(numbers: Any, start: int) -> Any:
    sums = np.empty(len(numbers), np.int64)  # Numba's runtime must be there for it
    sums[:] = numbers
    return start + sums.sum()


def call(address: int, *values: int) -> int:
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64 for _ in values))
    return int(kind(address)(*values))


@pytest.fixture(autouse=True)
def as_at_first(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other processes have kept in their temporary folder is not looked at, nor what this one
    has loaded."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("other")))
    monkeypatch.setattr(compiled, "_ADDRESSES", {})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on it is as in the next process, in which nothing may be compiled."""

    def refuse(*_: Any) -> None:
        raise AssertionError("compiled again")

    def begin() -> None:
        monkeypatch.setattr(compiled, "_ADDRESSES", {})
        monkeypatch.setattr(sharing, "emit_all", refuse)
        monkeypatch.setattr(type(plain_sum), "compile", refuse)

    return begin


def test_kept_code_runs_without_compiling(folder: Path, later: Callable[[], None]) -> None:
    first = Pointer(weighted, 2).address
    (file,) = folder.iterdir()
    assert file.name.startswith("test_sim_compiled.weighted-")
    later()
    again = Pointer(weighted, 2).address
    assert again != first
    assert call(first, 5, 7) == call(again, 5, 7) == 22


@pytest.mark.parametrize("part", [b"", b"no code", "half", "first", "last"])
def test_damaged_code_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: bytes | str
) -> None:
    whole_of = Pointer(weighted, 2)
    assert call(whole_of.address, 1, 1) == 4
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    spoilt = {
        "half": whole[: len(whole) // 2], "first": b"?" + whole[1:], "last": whole[:-1] + b"?",
    }  # fmt: skip
    file.write_bytes(part if isinstance(part, bytes) else spoilt[part])
    monkeypatch.setattr(compiled, "_ADDRESSES", {})
    assert call(whole_of.address, 1, 1) == 4
    assert file.read_bytes() == whole


def test_an_edit_of_the_sources_compiles_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("as it is", "edited"):
        monkeypatch.setattr(compiled, "sources", lambda text=text: text)
        monkeypatch.setattr(compiled, "_ADDRESSES", {})
        assert Pointer(weighted, 2).address
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    assert call(Pointer(weighted, 2).address, 2, 2) == 8


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.folders() == [tmp_path / "intaglio"]
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without an entry
    assert store.folders(make=True) == []


def test_without_a_home_code_is_kept_in_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    later: Callable[[], None],
) -> None:
    (tmp_path / "home").write_text("in the way")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    store.tell.cache_clear()
    assert Pointer(weighted, 2).address
    private = tmp_path / f"intaglio-{os.getuid()}"
    assert capsys.readouterr().err == (
        f"intaglio: compiled code is kept in {private}. {tmp_path}/home/intaglio must be writable,"
        " not: Not a directory.\n"
    )
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    later()
    assert call(Pointer(weighted, 2).address, 5, 7) == 22
    private.chmod(0o777)  # somebody else may have put code there
    assert store.folders() == [tmp_path / "home" / "intaglio"]


def test_a_function_of_arrays_runs_without_compiling(
    folder: Path, later: Callable[[], None]
) -> None:
    numbers = np.arange(6)
    assert ready(plain_sum, numbers, 2)(numbers, 2) == 17
    later()
    fresh = numba.njit()(plain_sum.py_func)  # as the next process has it
    assert ready(fresh, numbers, 3)(numbers, 3) == 18
    with pytest.raises(AssertionError, match="compiled again"):
        ready(fresh, numbers.astype(np.float64), 2)


ARRAYS = st.builds(
    lambda dtype, shape, cut, order, writable: (
        made := np.zeros(shape, dtype, order=order)[tuple(slice(None, None, c) for c in cut)],
        made.setflags(write=writable),
    )[0],
    st.sampled_from((np.uint8, np.int16, np.int32, np.int64, np.float32)),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2),
    st.sampled_from("CF"),
    st.booleans(),
)
PARTS = st.one_of(ARRAYS, st.integers(-(2**63), 2**63 - 1))
VALUES = st.recursive(
    PARTS, lambda inner: st.one_of(st.tuples(inner, inner), st.builds(Pair, inner, inner))
)


@given(VALUES, VALUES)
def test_what_is_one_kind_is_one_type_of_numba(a: Any, b: Any) -> None:
    assert (kernel.kind(a) == kernel.kind(b)) == (numba.typeof(a) == numba.typeof(b))


def some(count: int) -> list[kernel.Code]:
    """Kernels to compile."""
    given = (weighted, 2), (both, 2), (doubled, 1)
    return [Pointer(*one).code for one in given[:count]]


def test_several_processes_make_what_one_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    made = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        made.append(dict(sharing.emit_all(some(3), lambda *at: seen.append(at))))
    assert made[0].keys() == made[1].keys() == set(some(3))
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2
    assert call(compiled.load(made[1][some(2)[1]]), 5, 7) == 44


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_mistake_in_a_kernel_is_said_by_numba(
    monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(numba.TypingError, match="Unknown attribute 'nothing'"):
        list(sharing.emit_all([Pointer(unknown, 1).code, *some(1)], lambda *_: None))


def test_compiling_leaves_numba_as_it_was() -> None:
    assert emitting.emit(some(2)[1])
    fresh = numba.njit()(lambda a: int(np.abs(a)) + 1)
    assert fresh(-3) == 4
    with pytest.raises(TypeError, match="doubled must be called by kernels"):
        doubled(1)


def test_a_step_says_that_it_waits_for_code(folder: Path) -> None:
    lines: list[str] = []
    steps = Steps(lines.append)
    steps.plan("images")

    def slow(codes: Any, progress: Callable[[int, int], None]) -> Iterator[tuple[Any, bytes]]:
        looks.append(steps._watched())
        for n, code in enumerate(codes, 1):
            yield code, emitting.emit(code)
            progress(n, len(codes))
            looks.append(steps._watched())

    looks: list[str] = []
    with pytest.MonkeyPatch.context() as patch, steps.step("images"):
        patch.setattr(sharing, "emit_all", slow)
        steps.progress(3, 8)
        made_ready(some(2))
        looks.append(steps._watched())
    count = "compiling kernels {} of 2"
    assert looks == [count.format(0), count.format(1), count.format(2), "3 of 8"]
    assert steps.took[0].parts["compiling kernels"] >= 0


WITHOUT = """
import sys
from intaglio.file import load
from intaglio.sim.engine import Simulator
import numpy as np
program = load(sys.argv[1])
images = np.zeros((2, *program.inputs[0].shape), np.uint8)
found = Simulator(program, threads=1)(images)
print(sum(int(one.astype(int).sum()) for one in found.values()), "numba" in sys.modules)
"""


def test_the_next_process_needs_no_numba(tmp_path: Path) -> None:
    from networks import skip

    from intaglio.file import save

    save(skip(), tmp_path / "skip.intaglio")
    env = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "skip.intaglio")]
    done = [
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert done[0][0] == done[1][0]
    assert [one[1] for one in done] == ["True", "False"]


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
