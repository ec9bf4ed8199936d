"""A module that is not installed: the extra it belongs to, and a command that brings it here.

The project's own metadata is the only list of packages: pyproject.toml where intaglio runs from its
source, else what was installed with it. The command names packages, not intaglio, so that it works
for a clone, a wheel and a release alike.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"
# Modules whose package has another name.
PACKAGES = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "cocotb_tools": "cocotb",
    "dask": "distributed",
    "amaranth_boards": "amaranth-boards",
    "serial": "pyserial",
    "ai_edge_litert": "ai-edge-litert",
}


def extras() -> dict[str, tuple[str, ...]]:
    """The requirements of each extra, smallest extra first, those of extras inside it included."""
    listed = from_source(PROJECT) if PROJECT.is_file() else from_metadata()

    def whole(extra: str) -> list[str]:
        found: list[str] = []
        for requirement in listed[extra]:
            inner = re.fullmatch(r"intaglio\[([\w,-]+)\]", requirement)
            parts = inner[1].split(",") if inner else []
            found += [r for part in parts for r in whole(part)] or [requirement]
        return list(dict.fromkeys(found))

    return {extra: tuple(whole(extra)) for extra in listed}


def from_source(project: Path) -> dict[str, list[str]]:
    """What a pyproject.toml lists."""
    with project.open("rb") as file:
        found: dict[str, list[str]] = tomllib.load(file)["project"]["optional-dependencies"]
    return found


def from_metadata() -> dict[str, list[str]]:
    """What was installed with intaglio; nothing where it was not installed."""
    try:
        about = metadata("intaglio")
    except PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {name: [] for name in about.get_all("Provides-Extra") or []}
    for line in about.get_all("Requires-Dist") or []:
        requirement, _, condition = line.partition(";")
        of = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        if of:
            found[of[1]].append(requirement.strip().replace(" ", ""))
    return found


def extra_of(module: str) -> str | None:
    """The smallest extra whose packages have the module; None where none has."""
    top = module.partition(".")[0]
    package = PACKAGES.get(top, top)
    for extra, requirements in extras().items():
        if any(re.split(r"[^\w.-]", line, maxsplit=1)[0] == package for line in requirements):
            return extra
    return None


def install_command(requirements: tuple[str, ...]) -> str:
    """What brings packages into the environment that runs now."""
    pip = [sys.executable, "-m", "pip", "install"]
    if find_spec("pip") is None:  # environments of uv
        pip = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*pip, *requirements])


def remedy(module: str) -> str:
    """The command that brings the module with its whole extra, or alone where it is of none.

    `module` is the name that is imported, or that of the package.
    """
    extra = extra_of(module)
    return install_command((PACKAGES.get(module, module),) if extra is None else extras()[extra])
