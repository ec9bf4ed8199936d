"""Work shared by copies of this process: the same results in the same order, and none is lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.system.copies import Copies, as_done, meanwhile


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-3, 3), max_size=9), st.integers(1, 4))
def test_results_are_those_of_this_process_in_order(parts: list[int], jobs: int) -> None:
    def work(part: int) -> tuple[int, float]:
        return part, 6.0 / (part - 2)

    def attempt(results: object) -> tuple[list[tuple[int, float]], str]:
        found: list[tuple[int, float]] = []
        try:
            found += results  # type: ignore[arg-type]  # an iterator
        except ZeroDivisionError as error:
            return found, str(error)
        return found, ""

    expected, failed = attempt([work(part) for part in parts if part != 2])
    found, said = attempt(Copies(jobs).map(work, parts))
    if 2 in parts:
        assert said == "float division by zero"
    else:
        assert (found, said) == (expected, failed)


def test_parts_are_done_in_other_processes() -> None:
    found = set(Copies(2).map(lambda _: (time.sleep(0.05), os.getpid())[1], range(8)))
    assert len(found) == 2
    assert os.getpid() not in found
    assert set(Copies(1).map(lambda _: os.getpid(), range(2))) == {os.getpid()}


def test_what_a_dead_copy_had_is_done_here() -> None:
    here = os.getpid()

    def work(part: int) -> int:
        if part == 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return part * part

    assert list(Copies(2).map(work, range(5))) == [0, 1, 4, 9, 16]


def test_what_a_silent_copy_had_is_done_here() -> None:
    here = os.getpid()

    def work(part: int) -> int:
        if os.getpid() != here:
            time.sleep(60)
        return part

    begun = time.monotonic()
    assert sorted(as_done(work, range(3), 2, patience=0.1)) == [(0, 0), (1, 1), (2, 2)]
    assert time.monotonic() - begun < 30


def test_copies_end_with_the_loop_that_asked() -> None:
    seen = []
    for pid in Copies(2).map(lambda _: os.getpid(), range(6)):
        seen.append(pid)
        break
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


@pytest.mark.parametrize("fate", ["lives", "dies", "raises"])
def test_what_a_copy_makes_meanwhile_is_there_in_any_case(fate: str) -> None:
    here = os.getpid()

    def work(part: int) -> int:
        if os.getpid() != here and fate == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.getpid() != here and fate == "raises":
            raise ValueError("here there is none")
        return os.getpid() * part

    with meanwhile(work, 3) as found:
        made = found()
    assert made % 3 == 0
    assert (made == 3 * here) == (fate != "lives")
    with meanwhile(time.sleep, 60):  # and is ended where nobody waits for it
        begun = time.monotonic()
    assert time.monotonic() - begun < 30


def test_an_error_of_a_copy_is_raised_here() -> None:
    with meanwhile(lambda part: 1 // part, 0) as found, pytest.raises(ZeroDivisionError):
        found()


def test_copies_have_one_thread_of_torch() -> None:
    """Those of the process that is copied do not exist there, and would be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(1 << 20).sum()  # they are there
        found = Copies(2).map(
            lambda n: (torch.get_num_threads(), float((torch.ones(1 << 20) * n).sum())), (1, 2)
        )
        assert list(found) == [(1, float(1 << 20)), (1, float(2 << 20))]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
def test_a_copy_that_has_answered_holds_nothing_more() -> None:
    with meanwhile(lambda _: os.getpid(), 0) as found:
        pid = found()
        assert pid != os.getpid()
        until = time.monotonic() + 30
        while state_of(pid) not in ("Z", "") and time.monotonic() < until:
            time.sleep(0.01)
        assert state_of(pid) in ("Z", "")
        assert found() == os.getpid()  # made here


def state_of(pid: int) -> str:
    """The letter that the system has for a process: Z where it has ended; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return ""
