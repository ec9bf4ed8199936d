"""Studies of variants: finished cells are not run again, and tables tell what they say."""

from pathlib import Path

import companions
import odol
import pytest
import quant_study
from quant_bench import Bench
from quant_cells import Cell, Task, append_cell, read_cells
from quant_page import ABSENT
from quant_study import Study

from intaglio.quant import QuantConfig
from intaglio.quant.search.odol import OdolTerms

STEPS = [("weights", "stem", 2.4), ("codes", "stem", 1.0), ("weights", "head", 3.0),
         ("codes", "head", 5.0)]  # fmt: skip
FIRST = next(iter(odol.STUDY.variants))


@pytest.mark.parametrize("study", [odol.STUDY, companions.STUDY], ids=lambda s: s.name)
def test_every_variant_is_a_setting_of_its_own(study: Study) -> None:
    plan = quant_study.make_plan(study, quant_study.parse(study, None, ["--draws", "1"]))
    made = quant_study.tasks(study, plan, study.variants)
    assert len({one.depends["settings"] for one in made}) == len(study.variants)
    assert [(t.wbits, t.abits) for t in made] == [
        (c.wbits, c.abits) for c in study.variants.values()
    ]


def test_the_first_is_the_loss_as_it_is() -> None:
    configs = list(odol.STUDY.variants.values())
    assert configs[0] == QuantConfig(method="detptq", odol=OdolTerms())
    assert [c.method for c in configs].count("lp") == 1


def test_a_stopped_run_measures_what_is_missing_and_prints_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, int]] = []

    def quantised(self: Bench, task: Task, settings: QuantConfig) -> Cell:
        assert settings == odol.STUDY.variants[task.method]
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((task.method, task.draw))
        steps = STEPS if task.method == FIRST else [*STEPS[:3], ("codes", "head", 1.5)]
        ap = 0.5 + 0.01 * task.draw + 0.02 * (task.method == "box only")
        return Cell(task, ap, 0.75, 0.25, 3.0, 4.0, forwards=1234.0, chosen=steps)

    monkeypatch.setattr(Bench, "quantised", quantised)
    asked = ["--variant", FIRST, "box only", "--draws", "2", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        quant_study.main(odol.STUDY, None, asked)
    assert len(ran) == 3
    ran = ran[:2]
    quant_study.main(odol.STUDY, None, asked)
    assert ran[2:] == [("box only", 1)]
    printed = capsys.readouterr().out
    quant_study.main(odol.STUDY, None, [*asked, "--report"])
    lines = capsys.readouterr().out.splitlines()
    assert printed.splitlines()[-4:] == lines
    assert lines[2:] == [
        f"| {FIRST} | .505 ± .007 | .750 | .250 | 2 | {ABSENT} | {ABSENT} | 1,234 |",
        "| box only | .525 ± .007 | .750 | .250 | 2 | +0.0200 | 25% | 1,234 |",
    ]
    page = quant_study.section(odol.STUDY, tmp_path)
    assert all(line in page for line in lines)
    assert f"| class only | {ABSENT} |" in page
    assert "`python benchmarks/quant/odol.py`" in page


def test_companions_show_the_averages(tmp_path: Path) -> None:
    study = companions.STUDY
    plan = quant_study.make_plan(study, quant_study.parse(study, None, ["--out", str(tmp_path)]))
    for task in quant_study.tasks(study, plan, ["W4A4"]):
        spent = {"weight-bits": 4.0 + task.draw, "bops": 19.25}
        append_cell(plan.cells, Cell(task, 0.5, 0.75, 0.25, spent=spent))
    assert "| W4A4 | .500 ± .000 | 3 | 5.000 | 19.250 |" in quant_study.section(study, tmp_path)


def test_cells_of_other_images_or_settings_are_not_in_the_table(tmp_path: Path) -> None:
    study = odol.STUDY
    options = quant_study.parse(
        study, None, ["--variant", "class only", "--draws", "1", "--out", str(tmp_path)]
    )
    plan = quant_study.make_plan(study, options)
    (task,) = quant_study.tasks(study, plan, options.variant)
    other = Task(task.detector, task.method, 4, 4, 0, 7, task.depends)
    append_cell(plan.cells, Cell(other, 0.9, 0.9, 0.9))
    (line,) = quant_study.table(study, read_cells(plan.cells), [task])[2:]
    assert line.startswith(f"| class only | {ABSENT} |")
    append_cell(plan.cells, Cell(task, 0.4, 0.6, 0.5))
    (line,) = quant_study.table(study, read_cells(plan.cells), [task])[2:]
    assert line.startswith("| class only | .400 | .600 | .500 | 1 |")
