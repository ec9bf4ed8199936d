"""`benchmarks/odol.py`: finished cells are not run again, and the table tells what they say."""

from dataclasses import asdict
from pathlib import Path

import odol
import pytest
import quant
from quant_cells import Cell, Task, append_cell
from quant_page import ABSENT

from intaglio.quant import QuantConfig
from intaglio.quant.odol import OdolTerms

STEPS = [("weights", "stem", 2.4), ("codes", "stem", 1.0), ("weights", "head", 3.0),
         ("codes", "head", 5.0)]  # fmt: skip


def test_every_variant_is_a_setting_of_its_own() -> None:
    made = [odol.settings(name) for name in odol.VARIANTS]
    assert made[0] == QuantConfig(method="detptq", odol=OdolTerms())
    assert [c.method for c in made].count("lp") == 1
    assert len({repr(odol.described(name)) for name in odol.VARIANTS}) == len(odol.VARIANTS)
    for name, config in zip(odol.VARIANTS, made, strict=True):
        if config.method == "detptq":
            assert odol.described(name)["odol"] == asdict(config.odol)


def test_a_stopped_run_measures_what_is_missing_and_prints_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, int]] = []

    def quantised(self: quant.Bench, task: Task, settings: QuantConfig) -> Cell:
        assert settings == odol.settings(task.method)
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((task.method, task.draw))
        steps = STEPS if task.method == odol.REFERENCE else [*STEPS[:3], ("codes", "head", 1.5)]
        ap = 0.5 + 0.01 * task.draw + 0.02 * (task.method == "box only")
        return Cell(task, ap, 0.75, 0.25, 3.0, 4.0, forwards=1234.0, chosen=steps)

    monkeypatch.setattr(quant.Bench, "quantised", quantised)
    asked = ["--variant", odol.REFERENCE, "box only", "--draws", "2", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        odol.main(asked)
    assert len(ran) == 3
    ran = ran[:2]
    odol.main(asked)
    assert ran[2:] == [("box only", 1)]
    printed = capsys.readouterr().out
    odol.main([*asked, "--report"])
    lines = capsys.readouterr().out.splitlines()
    assert printed.splitlines()[-4:] == lines
    assert lines[2:] == [
        f"| {odol.REFERENCE} | .505 ± .007 | .750 | .250 | 2 | {ABSENT} | {ABSENT} | 1,234 |",
        "| box only | .525 ± .007 | .750 | .250 | 2 | +0.0200 | 25% | 1,234 |",
    ]


def test_cells_of_other_images_or_settings_are_not_in_the_table(tmp_path: Path) -> None:
    options = odol.parse(["--variant", "class only", "--draws", "1", "--out", str(tmp_path)])
    plan = odol.make_plan(options)
    (task,) = odol.tasks(plan, options.variant)
    other = Task(task.detector, task.method, 4, 4, 0, 7, task.depends)
    append_cell(plan.cells, Cell(other, 0.9, 0.9, 0.9))
    assert f"| class only | {ABSENT} |" in odol.table(odol.read_cells(plan.cells), [task])
    append_cell(plan.cells, Cell(task, 0.4, 0.6, 0.5))
    assert "| class only | .400 | .600 | .500 | 1 |" in odol.table(
        odol.read_cells(plan.cells), [task]
    )
