"""A site, built as `make docs` builds it."""

import os
import subprocess
import sys
from pathlib import Path

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
    return out / "site"
