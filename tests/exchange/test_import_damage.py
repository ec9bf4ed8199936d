"""Damaged ONNX files: a sentence, in little time and memory, never a traceback."""

from __future__ import annotations

import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from onnx_damage import damaged
from tools import Cli

from intaglio.errors import IntaglioError
from intaglio.exchange.importer import import_onnx

SECONDS = 20  # for one file, on a busy machine
MEMORY = 400 << 10  # KiB that all files together may add


def late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("a damaged file must be refused in little time")


def survive(count: int, path: Path, first: int) -> int:
    """Imports that many damaged files; how many of them were refused."""
    said: list[str] = []
    started = time.monotonic()
    before = signal.signal(signal.SIGALRM, late)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for n in range(first, first + count):
            path.write_bytes(damaged(np.random.default_rng(n)))
            signal.alarm(SECONDS)
            try:
                import_onnx(path)
            except IntaglioError as error:
                said.append(str(error))
            except Exception as error:
                raise AssertionError(f"seed {n}: {type(error).__name__}: {error}") from error
            finally:
                signal.alarm(0)
            if count > 1000 and n % 200 == 0:
                sys.stderr.write(f"\r{n:6,} files, {time.monotonic() - started:4.0f} s")
    finally:
        signal.signal(signal.SIGALRM, before)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert not [sentence for sentence in said if "\n" in sentence]
    assert grown < MEMORY, f"{grown >> 10} MiB"
    return len(said)


def test_damaged_files_end_in_a_sentence(tmp_path: Path) -> None:
    assert survive(400, tmp_path / "m.onnx", first=0) > 200


@pytest.mark.slow
def test_many_damaged_files_end_in_a_sentence(tmp_path: Path) -> None:
    """`-s` shows the figures."""
    refused = survive(12_000, tmp_path / "m.onnx", first=1000)
    print(f"\n12,000 files, {refused:,} refused")
    assert refused > 6000


def test_the_command_says_it_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    """Exit code 2 and one line."""
    seen = 0
    for n in range(12):
        (tmp_path / "m.onnx").write_bytes(damaged(np.random.default_rng(n)))
        code, _, err = cli("import", "m.onnx", "-o", "m.intaglio")
        if code:
            seen += 1
            assert code == 2, err
            assert "Traceback" not in err
            assert not (tmp_path / "m.intaglio").exists()
        (tmp_path / "m.intaglio").unlink(missing_ok=True)
    assert seen > 3
