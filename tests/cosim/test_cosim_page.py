"""docs/cosim.md: what stands there is run, as it stands."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from c_programs import STRICT, called, compiler
from tools import needs

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "cosim.md").read_text(encoding="utf-8")
PASS = "PASS 4032 codes of 3 frames"


def blocks(language: str) -> list[str]:
    """The page's snippets."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the examples, and this tree's `intaglio` as a command."""
    work = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "examples", work / "examples")
    (work / "bin").mkdir()
    start = work / "bin" / "intaglio"
    start.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m intaglio.cli "$@"\n')
    start.chmod(0o755)
    return work


def shell(folder: Path, text: str) -> str:
    """What commands print that end without an error. There is no torch."""
    (folder / "none" / "torch").mkdir(parents=True, exist_ok=True)
    (folder / "none" / "torch" / "__init__.py").write_text("raise ImportError('no torch here')")
    beside = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent)])
    env = {
        **os.environ,
        "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder / 'none'}{os.pathsep}{ROOT}",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", text], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def first(folder: Path) -> str:
    """What the first lines of the page print."""
    needs("icarus")
    compiler("make")
    return shell(folder, blocks("sh")[0])


@pytest.mark.rtl
def test_the_first_lines_end_in_a_pass(folder: Path, first: str) -> None:
    assert first.rstrip().endswith(PASS)
    assert "integers of 4 tensors differ" in first
    broken = folder / "examples" / "foreign" / "rescale_unit.v"
    text = broken.read_text()
    assert "+ (hi < 0 ? 32'sd1 : 32'sd0)" in text
    broken.write_text(text.replace("+ (hi < 0 ? 32'sd1 : 32'sd0)", ""))
    compiled = next(line for line in blocks("sh")[0].splitlines() if line.startswith("iverilog"))
    found = shell(folder, f"{compiled}\ncd work && vvp -Mc -mnet bench || true")
    broken.write_text(text)
    (said,) = re.findall(r"^`(FAIL .*)`$", PAGE, re.MULTILINE)
    assert said in found.splitlines()


@pytest.mark.rtl
def test_tables_are_read_as_the_page_says(folder: Path, first: str) -> None:
    (text,) = (block for block in blocks("python") if "table_text" in block)
    ran = shell(folder, f"cat > tables.py <<'PY'\n{text}PY\npython tables.py")
    assert ran.strip() == "y[c] = clamp(round_shift(x[c] · M[c] + B[c], S[c]) + offset, lo, hi)"
    trace = folder / "work" / "trace" / "tables"
    own = (folder / "work" / "mult.hex").read_text()
    assert own == next(trace.glob("*-conv.M.hex")).read_text()


@pytest.mark.rtl
def test_the_bench_in_cocotb_is_whole(
    folder: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocotb_tools.runner import get_results, get_runner

    (text,) = (block for block in blocks("python") if "@cocotb.test" in block)
    (folder / "bench_page.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))
    sources = [folder / "examples/foreign" / name for name in ("rescale_axis.v", "rescale_unit.v")]
    runner = get_runner("icarus")
    runner.build(
        sources=sources, hdl_toplevel="rescale_axis", build_dir=folder / "sim", always=True,
        parameters={"CHANNELS": 8, "ZERO_POINT": -5},
    )  # fmt: skip
    results, log = folder / "results.xml", folder / "log"
    with contextlib.suppress(SystemExit):  # how cocotb's runner tells pytest of a failed test
        runner.test(
            test_module="bench_page", hdl_toplevel="rescale_axis", hdl_toplevel_lang="verilog",
            build_dir=folder / "sim", test_dir=folder / "work", log_file=log,
            results_xml=str(results),
        )  # fmt: skip
    assert get_results(results) == (1, 0), log.read_text()


@pytest.mark.rtl
def test_the_c_program_is_whole(folder: Path, first: str) -> None:
    (text,) = blocks("c")
    (folder / "main.c").write_text(text)
    sources = ("main.c", "work/c/intaglio.c", "work/c/net.c")
    called(compiler(), *STRICT, "-std=c99", "-Iwork/c", *sources, "-o", "main", cwd=folder)
    code, said = called("./main", cwd=folder).decode().splitlines()
    assert -128 <= int(code) < 128
    at = r"conv \(from conv\): frame 0, channel 0, y 0, x 0: got 99, expected -?\d+"
    assert re.fullmatch(at, said)


@pytest.mark.rtl
@pytest.mark.slow
def test_the_bench_in_systemverilog_ends_in_a_pass(folder: Path, first: str) -> None:
    needs("verilator")
    assert shell(folder, blocks("sh")[1]).rstrip().splitlines()[-1].startswith((PASS, "- "))


def test_every_function_and_table_of_the_page_is_there() -> None:
    """The tables of the page against the header, the packages and the traces."""
    c = ROOT / "intaglio" / "cmodel" / "c"
    header = (c / "intaglio.h").read_text()
    declared = set(re.findall(r"\b(intaglio_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    part = PAGE.split("## In C, DPI and VPI")[1]
    named = set(re.findall(r"`(intaglio_\w+)", part)) - {"intaglio_dpi"}
    assert named == declared - {"intaglio_open"}  # NAME_open
    imported = set(re.findall(r"function \w+ (\w+)\(", (c / "intaglio_dpi.sv").read_text()))
    assert imported < declared
    assert declared - imported == {
        "intaglio_open", "intaglio_about", "intaglio_run", "intaglio_read", "intaglio_write",
    }  # fmt: skip
    calls = set(re.findall(r'add_call\("\$(\w+)"', (c / "intaglio_vpi.c").read_text()))
    assert set(re.findall(r"`\$(intaglio_\w+)", part)) == calls
