"""The site, built once a session, without running the tour."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools import docs_packages

ROOT = Path(__file__).parent.parent.parent


def built_site(out: Path, *options: str) -> Path:
    """`docs/` as HTML below `out`; a warning is an error."""
    docs_packages()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", *options,
         "-d", str(out / "doctrees"), str(ROOT / "docs"), str(out / "site")],
        capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    assert "WARNING" not in done.stderr
    return out / "site"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    return built_site(tmp_path_factory.mktemp("docs"), "-D", "nb_execution_mode=off")
