"""How long a command says nothing, and whether its steps are as many as it said."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENDED = re.compile(r"\[(\d+)/(\d+)\] ([^:]*) \u2026 [\d.]+ s$")  # of the step log


@dataclass(frozen=True)
class Heard:
    """What a command said: its exit code, its lines (standard output and error together), and the
    longest time in seconds without one, until its end."""

    code: int
    lines: tuple[str, ...]
    longest: float


def heard(
    command: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None
) -> Heard:
    """Run a command in `folder` and listen."""
    last, longest, lines = time.monotonic(), 0.0, []
    with subprocess.Popen(
        [str(part) for part in command], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as child:  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            lines.append(line.rstrip("\n"))
    return Heard(child.returncode, tuple(lines), max(longest, time.monotonic() - last))


def steps_of(lines: Sequence[str]) -> list[str]:
    """The names of the steps that ended. They must be numbered one by one, and each must be of the
    same whole."""
    found = [match for line in lines if (match := ENDED.match(line))]
    # A line within a step may look like its end: the last of a number is that.
    ends = {int(match[1]): match for match in found}
    assert list(ends) == list(range(1, len(ends) + 1)), lines
    assert len({match[2] for match in found}) <= 1, lines
    return [match[3] for match in ends.values()]


def all_steps_of(lines: Sequence[str]) -> list[str]:
    """As `steps_of`, of a command that came to its end: as many as it said there would be."""
    names = steps_of(lines)
    said = [int(match[2]) for line in lines if (match := ENDED.match(line))]
    assert said, lines
    assert len(names) == said[0], lines
    return names
