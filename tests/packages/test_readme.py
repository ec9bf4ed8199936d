"""The README's doors, line by line as they stand, where nothing but what they install is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from environment import ROOT, clean, copied
from tools import stock_path

pytestmark = pytest.mark.xdist_group("packages")
ENDS = {  # what the last lines of each door say
    "A golden model for your RTL": "right: 2688 codes, all equal\nbroken: 4 of 2,688 beats"
    ".*\nright: PASS",
    "Your board": r"all equal(.*\n)*.* MHz met, .*",
    "Your detector": r"AP 0\.6\d+.*\n(.*\n)*wrote own\.html",
}
SLOW = {name: [pytest.mark.slow] if name != "A golden model for your RTL" else [] for name in ENDS}


def doors() -> dict[str, str]:
    """The lines below each heading of the README that are for a shell."""
    found = {}
    for part in (ROOT / "README.md").read_text(encoding="utf-8").split("\n## "):
        _, fence, rest = part.partition("\n```sh\n")
        if fence:
            found[part.partition("\n")[0]] = rest.partition("```")[0]
    return found


def test_every_door_is_tried_and_has_ten_lines_at_most() -> None:
    assert set(doors()) == set(ENDS)
    assert all(len(lines.splitlines()) <= 10 for lines in doors().values())


@pytest.mark.rtl
@pytest.mark.parametrize("door", [pytest.param(name, marks=SLOW[name]) for name in ENDS])
def test_the_lines_of_a_door(tmp_path: Path, door: str) -> None:
    clone = copied(tmp_path / "clone")
    seen = clean(tmp_path / "home") | {"PATH": stock_path(tmp_path / "path")}
    del seen["PIP_CONSTRAINT"]
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", doors()[door]], cwd=clone, env=seen, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert re.search(ENDS[door], done.stdout), done.stdout
