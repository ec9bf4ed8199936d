"""What a build folder is: its files as a value, its manifest, and how one is recognised."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from intaglio.errors import BuildError
from intaglio.file import load, save
from intaglio.program import Program
from intaglio.system.places import Kind

MANIFEST = "manifest.json"
PROGRAM = "program.intaglio"
FORMAT = 1
STEPS = "steps.json"  # how long the build took
BITSTREAM = "bitstream"
RECORDS = "records"  # what was found of the build
PACKED = (".bit", ".bin", ".fs")
NEEDED = {"frames", "input", "outputs", "cycles_per_frame", "latency_cycles", "frame_ends"}


@dataclass(frozen=True)
class BuildFiles:
    """Every file of a build: path to contents."""

    files: Mapping[str, bytes]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the build is: ports, layers, cycles, digests of the other files."""
        found: dict[str, Any] = json.loads(self.files[MANIFEST])
        return found

    @cached_property
    def program(self) -> Program:
        """The Program that the hardware was generated from."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PROGRAM
            path.write_bytes(self.files[PROGRAM])
            return load(path)


def is_build(folder: Path) -> bool:
    """Whether a build wrote this folder: other programs have a manifest.json too."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return bool(manifest["format"] == FORMAT and manifest["program"] and manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def written(folder: Path) -> set[str]:
    """The files that a build wrote, relative to its folder; none of a folder that is no build."""
    if not is_build(folder):
        return set()
    return {MANIFEST, *json.loads((folder / MANIFEST).read_bytes())["files"]}


def packed_files(folder: Path) -> list[Path]:
    """The files in the bitstream's folder of a build that go to a device."""
    return sorted(p for p in (folder / BITSTREAM).glob("*") if p.suffix in PACKED)


def made_since(folder: Path, spared: str = "") -> str:
    """What a folder holds that its build did not write, as words: results of other commands, and
    files that a user has added or changed; but for the folder `spared`, and what was tried to make
    a bitstream."""
    spares = {spared, f"{BITSTREAM}.failed", RECORDS} | (
        set() if packed_files(folder) else {BITSTREAM}
    )
    manifest = json.loads((folder / MANIFEST).read_bytes())
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or "__pycache__" in name.parts or name.parts[0] in spares:
            continue
        digest = manifest["files"].get(name.as_posix())
        if digest is not None and sha256(path) != digest:
            found.append(f"a changed {name}")
        elif digest is None and str(name) not in (MANIFEST, STEPS):
            found.append(name.parts[0] + "/" * (len(name.parts) > 1))
    found = list(dict.fromkeys(found))
    return " and ".join(found[:2]) if len(found) < 3 else f"{found[0]}, {found[1]} and others"


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Those whose contents are not what the manifest says, all of which exist."""
    digests = manifest["files"].items()
    return tuple(name for name, digest in digests if digest != sha256(folder / name))


def sha256(path: Path) -> str:
    """Of a file's contents."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


BUILD = Kind("an earlier build", is_build, made_since)


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json, with every file it names present."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        missing = [path for path in manifest["files"] if not (folder / path).is_file()]
        if manifest["format"] != FORMAT or not manifest.keys() >= NEEDED:
            raise ValueError("another kind of manifest")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"{folder} must be a folder written by `intaglio build`, not one without a readable"
            f" {MANIFEST}."
        ) from error
    if missing:
        raise BuildError(f"{folder} must contain {missing[0]}; build again.")
    return manifest


def manifest_bytes(facts: Mapping[str, Any], contents: Mapping[str, bytes]) -> bytes:
    """manifest.json: the facts and every other file's SHA-256."""
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(contents.items())}
    return (json.dumps({**facts, "files": digests}, indent=1) + "\n").encode()


def program_bytes(program: Program) -> bytes:
    """The Program's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PROGRAM
        save(program, path)
        return path.read_bytes()
