"""What other programs made is found again, and never for anything else."""

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.system.processes import can_keep
from intaglio.system.shelf import KEPT, UNUSED, digest, identity, shelf, used

PARTS = st.lists(st.binary(max_size=4), max_size=4)


@given(PARTS, PARTS)
def test_other_parts_have_another_digest(one: list[bytes], other: list[bytes]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


def test_a_program_that_was_replaced_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert identity("a-compiler", "--version") == ""
    found = set()
    for text in ("echo 1.0", "echo 1.1", "echo 1.1; exit 0"):
        program = tmp_path / "a-compiler"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        found.add(identity("a-compiler", "--version"))
        assert identity("a-compiler", "--version") in found
    assert len(found) == 3


def test_what_was_not_used_for_long_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    can_keep.cache_clear()
    place = shelf("things")
    assert place == tmp_path / "intaglio" / "things"
    now = time.time()
    ages = list(range(KEPT + 6)) + [UNUSED + 60 + n for n in range(3)]
    for n, age in enumerate(ages):
        (place / f"{n}").mkdir(parents=True)
        (place / f"{n}" / "made").write_text("by a program")
        os.utime(place / f"{n}", (now - age, now - age))
    used(place / f"{KEPT + 5}")
    left = {int(path.name) for path in place.iterdir()}
    assert left == set(range(KEPT + 6))  # all within a day, though more than KEPT
    for n in range(KEPT + 6):
        os.utime(place / f"{n}", (now - UNUSED - 60 - n,) * 2)
    used(place / "0")
    assert {int(path.name) for path in place.iterdir()} == set(range(KEPT))
