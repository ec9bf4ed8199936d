"""`make bench-quant`: finished cells are kept, not run again, and the page tells what they say."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import quant
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_bench import Clock
from quant_cells import FLOAT, Cell, Task, append_cell, current, from_json, read_cells
from quant_methods import BEST_FIXED, FIXED, METHODS, config, has_width, trained
from quant_page import ABSENT, text
from quant_rows import results

from intaglio.errors import DataError
from intaglio.file import save
from intaglio.fixed import IntType
from intaglio.ops import Input, Output
from intaglio.program import Builder

SCRIPT = Path(quant.__file__)
IMAGES = {"fcos-nano": 1000, "retinanet-small": 500}


def task(method: str, draw: int = 0, bits: tuple[int, int] = (4, 4), **changes: Any) -> Task:
    depends = {"model": "abc", "calibrated": 64, "settings": dict(METHODS.get(method, {}))}
    made = Task("fcos-nano", method, *bits, draw, 1000, depends)
    return replace(made, **changes)


def cell(method: str, ap: float, draw: int = 0, **changes: Any) -> Cell:
    return Cell(task(method, draw, **changes), ap, ap + 0.25, ap + 0.125, 2.0 + draw, 5.0)


# --- the file of cells ----------------------------------------------------------------------------


@settings(max_examples=30)
@given(data=st.data())
def test_a_torn_last_line_is_dropped_and_the_file_goes_on(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cells") / "cells.jsonl"
    cells = [cell("lp2", 0.1 * n, n) for n in range(4)]
    for one in cells[:3]:
        append_cell(path, one)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    torn = data.draw(st.integers(1, len(last)))
    path.write_bytes(whole[: len(whole) - torn])
    assert read_cells(path) == cells[:2]
    append_cell(path, cells[3])
    assert read_cells(path) == [*cells[:2], cells[3]]
    assert path.read_bytes().count(b"\n") == 3


def test_a_cell_reads_as_written() -> None:
    searched = replace(
        cell("detptq", 0.5), forwards=1.5, naive_forwards=20, digest="d", odol=(0.2, 0.1),
        kept=True, chosen=[("weights", "stem", 2.4), ("codes", "stem", 1.0)],
    )  # fmt: skip
    again = from_json(json.loads(json.dumps(searched.to_json())))
    assert json.dumps(again.to_json()) == json.dumps(searched.to_json())
    assert again.task.key == searched.task.key


def test_a_line_that_is_not_a_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    append_cell(path, cell("lp2", 0.5))
    for line in ("{}", "[1]", "not JSON", '{"detector": "fcos-nano"}'):
        path.write_text(line + "\n" + path.read_text().splitlines()[-1] + "\n")
        with pytest.raises(DataError) as error:
            read_cells(path)
        assert str(error.value).startswith(f"{path} must have one cell a line, not what line 1")
        assert str(error.value).endswith("; remove that line.")


def test_later_cells_replace_earlier_ones() -> None:
    old = {"model": "abc", "calibrated": 64, "settings": {"p": 9}}
    first = [cell("lp2", 0.1, draw, depends=old) for draw in range(3)]
    assert current(first) == first
    again = cell("lp2", 0.2, 1, depends=old)
    assert current([*first, again]) == [first[0], again, first[2]]
    other_settings = cell("lp2", 0.3, 0)
    assert current([*first, other_settings]) == [other_settings]
    other_weights = cell("lp3", 0.4, depends={**old, "model": "def"})
    assert current([*first, other_weights]) == [other_weights]
    runs = [
        cell("aqd", 0.5, n, depends={"model": "abc", "program": f"digest {n}"}) for n in range(2)
    ]
    assert current([*first, *runs]) == [*first, *runs]


# --- what is run ----------------------------------------------------------------------------------


def plan(tmp_path: Path, *arguments: str) -> quant.Plan:
    return quant.make_plan(quant.parse(["--out", str(tmp_path), *arguments]))


def test_a_stopped_run_goes_on_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(tmp_path, "--detector", "fcos-nano", "--width", "W4A4", "W2A2", "--draws", "2")
    asked: list[str] = []

    def fake(bench: object, task: Task, programs: object) -> Cell:
        if len(asked) == 7:
            raise KeyboardInterrupt
        asked.append(task.key)
        return Cell(task, 0.5, 0.5, 0.5)

    monkeypatch.setattr(quant.Bench, "cell", fake)
    with pytest.raises(KeyboardInterrupt):
        quant.measure(wanted)
    kept = list(asked)
    asked.clear()
    with wanted.cells.open("a") as file:
        file.write('{"detector": "fcos-na')
    monkeypatch.setattr(
        quant.Bench, "cell", lambda _, task, __: asked.append(task.key) or Cell(task, 0, 0, 0)
    )
    quant.measure(wanted)
    assert kept + asked == [one.key for one in quant.tasks(wanted, [])]
    asked.clear()
    quant.measure(wanted)
    quant.measure(replace(wanted, methods=["lp2"], widths=[(2, 2)]))
    assert asked == []
    quant.measure(replace(wanted, images={**wanted.images, "fcos-nano": 10}, methods=["lp2"]))
    assert len(asked) == 1 + 2 * 2


def test_the_most_telling_cells_come_first(tmp_path: Path) -> None:
    found = quant.tasks(plan(tmp_path), [])
    under_budgets = [method for method in METHODS if not has_width(method, (3, 3))]
    count = 6 * len(METHODS) - 5 * len(under_budgets)
    assert len({one.key for one in found}) == len(found) == 2 + 2 * count * 3
    assert under_budgets
    assert {(t.wbits, t.abits) for t in found if t.method in under_budgets} == {(4, 4)}
    assert [one.method for one in found[:2]] == [FLOAT, FLOAT]
    four = found[2 : 2 + 2 * len(METHODS) * 3]
    assert {(one.wbits, one.abits) for one in four} == {(4, 4)}
    assert [one.detector for one in four] == sorted(one.detector for one in four)
    assert {one.method for one in found[-2 * 5 * 3 :]} == set(quant.LAST)
    for method in METHODS:
        chosen = config(method, 3, 5)
        assert chosen.abits == 5
        assert bool(chosen.budgets) == (method in under_budgets)


def test_a_search_that_goes_on_counts_the_seconds_before(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    clock = Clock(state)
    clock.before = [100.0, 200.0]
    clock.write()
    assert Clock(state).read()[0] < 50  # without its state a search starts anew
    state.touch()
    cpu, wall = Clock(state).stop()
    assert 100 <= cpu < 150
    assert 200 <= wall < 250
    assert list(tmp_path.iterdir()) == [state]


def test_trained_programs_are_named_by_their_files(tmp_path: Path) -> None:
    builder = Builder()
    builder.add(Input(output="x", shape=(1, 2, 2), type=IntType(8, signed=False)))
    builder.add(Output(output="y", input="x"))
    program = builder.build()
    for name in ("aqd-w4a4", "aqd-w2a2-run1", "ablation/shared BN-w2a2"):
        path = tmp_path / "fcos-nano" / f"{name}.intaglio"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(program, path)
    found = trained(tmp_path)
    assert {(t.detector, t.method, t.wbits, t.abits, t.run, t.ablation) for t in found} == {
        ("fcos-nano", "aqd", 4, 4, 0, False),
        ("fcos-nano", "aqd", 2, 2, 1, False),
        ("fcos-nano", "shared BN", 2, 2, 0, True),
    }
    assert trained(None) == []
    wrong = tmp_path / "fcos-nano" / "aqd.intaglio"
    save(program, wrong)
    with pytest.raises(DataError) as error:
        trained(tmp_path)
    assert str(error.value) == (
        f"{wrong} must be called DETECTOR/METHOD-w4a4.intaglio, or"
        f" DETECTOR/ablation/NAME-w2a2.intaglio, below {tmp_path}; rename it."
    )


# --- the page -------------------------------------------------------------------------------------


def measured() -> list[Cell]:
    """By hand: every fixed p and DetPTQ on three draws, one training, one of an ablation."""
    bits = {"bits": (32, 32), "depends": {"model": "abc"}}
    cells = [cell(FLOAT, 0.65, **bits)]
    for number, method in enumerate((*FIXED, "minmax")):
        cells += [cell(method, 0.5 + 0.01 * number + 0.004 * d, d) for d in range(3)]
    cells += [
        replace(
            cell("detptq", 0.55 + 0.002 * d, d), forwards=2000.0 + d, naive_forwards=20000,
            odol=(0.2, 0.1 + 0.01 * d), kept=True, chosen=[("weights", "stem", 3.0)],
        )
        for d in range(3)
    ]  # fmt: skip
    cells += [cell("lp2", 0.3, bits=(2, 2)), cell("lp2", 0.9, images=10)]
    program = {"model": "abc", "program": "digest"}
    one = Cell(task("aqd", bits=(2, 2), depends=program), 0.6, 0.8, 0.7)
    other = replace(one.task, method="shared BN", ablation=True)
    return [*cells, one, Cell(other, 0.4, 0.6, 0.5)]


def test_the_page_of_known_cells(golden: Callable[[str, str], None]) -> None:
    golden("bench_results.md", text(results(measured(), IMAGES), ["results-ap.svg"]))


def test_the_page_of_no_cells_invents_nothing() -> None:
    page = text(results([], IMAGES), [])
    body = [line for line in page.split("\n") if line.startswith("| ")]
    entries = {entry.strip() for line in body[2::3] for entry in line.strip("|").split("|")}
    assert len(body) == 3 * 3
    assert entries == {ABSENT}


def test_the_json_of_known_cells() -> None:
    found = json.loads(json.dumps(results(measured(), IMAGES).to_json()))
    assert found["float"] == {"fcos-nano": 0.65}
    assert found["search"] == {"fcos-nano": {"forwards": 2001.0, "naive_forwards": 20000}}
    rows = {(row["method"], row["wbits"], row["abits"]): row for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == len(FIXED) + 5
    assert rows["detptq", 4, 4] == {
        "detector": "fcos-nano", "method": "detptq", "wbits": 4, "abits": 4,
        "ap_mean": pytest.approx(0.552), "ap_std": pytest.approx(0.002), "draws": 3, "images": 1000,
        "seconds": 3.0, "forwards": 2001.0,
    }  # fmt: skip
    assert rows["lp2", 2, 2]["ap_std"] is None
    assert rows["aqd", 2, 2]["seconds"] is rows["aqd", 2, 2]["forwards"] is None
    assert [(row["method"], row["ap_mean"]) for row in found["ablation"]] == [("shared BN", 0.4)]


def test_the_best_fixed_p_needs_every_p_on_the_same_draws() -> None:
    cells = [cell(method, 0.5 + 0.01 * n, d) for n, method in enumerate(FIXED) for d in range(2)]
    best = results(cells, IMAGES).row("fcos-nano", BEST_FIXED, 4, 4)
    assert best is not None
    assert (best.note, best.ap) == (FIXED[-1], pytest.approx(0.54))
    for missing in range(len(cells)):
        left = cells[:missing] + cells[missing + 1 :]
        assert results(left, IMAGES).row("fcos-nano", BEST_FIXED, 4, 4) is None


# --- the script -----------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--threads", "1", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_cell_from_scenes_to_figures(tmp_path: Path) -> None:
    few = ("--quick", "--method", "lp2", "--width", "W4A4", "--images", "8", "--out", str(tmp_path))
    assert "fcos-nano W4A4 lp2 draw 0: AP 0." in run(*few)
    float_cell, made = read_cells(tmp_path / "quant-cells.jsonl")
    assert float_cell.task.method == FLOAT
    assert made.task.depends["calibrated"] == 16
    assert 0.2 < made.ap <= 1
    assert len(made.digest) == 64
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.[ms]*")}
    assert set(written) == {"results.md", "results-ap.svg"}
    (tmp_path / "results.md").unlink()
    assert "cells to measure" not in run(*few, "--report")
    assert f"{made.ap:.3f}".removeprefix("0") in (tmp_path / "results.md").read_text()


@pytest.mark.slow
def test_the_quick_bench(tmp_path: Path) -> None:
    run("--quick", "--out", str(tmp_path))
    cells = read_cells(tmp_path / "quant-cells.jsonl")
    assert len(cells) == 1 + 2 * len(quant.QUICK_METHODS)
    for one in cells:
        assert (one.forwards is not None) == (one.task.method == "detptq") == bool(one.chosen)
    page = (tmp_path / "results.md").read_text()
    assert "(results-ap.svg)" in page
    assert "(results-p.svg)" in page
    assert "0 of 15 cells to measure" in run("--quick", "--out", str(tmp_path))
