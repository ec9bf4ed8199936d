"""An environment that has the wheel and nothing that was not asked for; and how it is used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TRIAL = Path(__file__).with_name("trial.py")


def clean(home: Path) -> dict[str, str]:
    """What a process sees: the system's programs, an empty home, pip's own settings; the tested
    versions; and where compiled kernels are kept, which are named by their sources."""
    home.mkdir(parents=True, exist_ok=True)
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    return pip | {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"],
        "OMP_NUM_THREADS": "1",
    }


@dataclass
class Environment:
    """A virtual environment in `folder`, which may be set back to how `keep` found it."""

    folder: Path
    home: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin/python"

    def make(self, python: str, *requirements: str) -> None:
        """With these requirements alone."""
        self.sh(f"{python} -m venv {self.folder}")
        self.pip(*requirements)

    def pip(self, *requirements: str) -> str:
        """Install, and what pip says."""
        asked = " ".join(f"'{requirement}'" for requirement in requirements)
        return self.sh(f"{self.python} -m pip install {asked}")

    def sh(self, line: str) -> str:
        """What a line prints that a shell runs, as a user would; it must succeed."""
        done = subprocess.run(
            ["/bin/sh", "-c", line], env=clean(self.home), cwd=self.home, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def keep(self) -> Path:
        """A copy made of links to the same files: pip replaces files, it does not write to them."""
        kept = self.folder.with_name(f"{self.folder.name}.kept")
        self.sh(f"cp -al {self.folder} {kept}")
        return kept

    def set_back(self, kept: Path) -> None:
        """To the copy, at the same place."""
        shutil.rmtree(self.folder)
        self.sh(f"cp -al {kept} {self.folder}")

    def run(self, lines: list[list[str]]) -> list[tuple[int, str]]:
        """Exit code and last words of commands, one after the other in one process."""
        asked = self.home / "asked.json"
        asked.write_text(json.dumps(lines))
        answers = json.loads(self.sh(f"{self.python} -I {TRIAL} {asked}"))
        return [(code, err) for code, err in answers]


def copied(folder: Path) -> Path:
    """What a clone of this tree holds, with changes that are not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def built_wheel(folder: Path) -> Path:
    """The wheel of this tree, built from a copy, as building writes beside the sources."""
    source = copied(folder / "source")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel
