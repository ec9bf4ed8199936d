"""Mutants of a small design: made as they should be, found by `verify`, and their block named; and
what is proved to be the design in other words is so."""

from __future__ import annotations

import pytest
from mutant import KINDS, Kind, Mutant, Sources
from mutant_designs import DESIGNS
from mutant_same import same
from mutant_score import MAKERS
from mutant_table import named, rows, table
from mutant_verdict import Judge
from tools import needs, needs_tools

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("icarus")]

Made = tuple[Judge, Sources, dict[Kind, list[Mutant]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    needs_tools("yosys")
    judge = Judge(DESIGNS[0].bundle(), tmp_path_factory.mktemp("mutants") / "build")
    sources = judge.sources
    return judge, sources, {kind: list(make(sources, 8, 1)) for kind, make in MAKERS.items()}


def test_a_mutant_differs_in_one_file_and_is_made_again(made: Made) -> None:
    _, sources, by_kind = made
    assert tuple(by_kind) == KINDS
    for kind, mutants in by_kind.items():
        assert len({mutant.name for mutant in mutants}) == len(mutants) == 8
        for mutant in mutants:
            ((path, text),) = sources.mutated(mutant).items()
            assert text != sources.files[path], mutant.name
            assert mutant.block in sources.cells
            assert mutant.kind == kind
        assert list(MAKERS[kind](sources, 8, 1)) == mutants


def test_a_design_without_a_change_passes(made: Made) -> None:
    needs("icarus")
    judge, sources, _ = made
    found = judge.judged(sources, None)
    assert not found.caught, found.sentence


SAMPLE: dict[Kind, tuple[int, ...]] = {**dict.fromkeys(KINDS, (0, 1)), "constant": (0, 2)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_found_and_its_block_named(made: Made, kind: Kind) -> None:
    needs("icarus")
    judge, sources, by_kind = made
    for number in SAMPLE[kind]:
        mutant = by_kind[kind][number]
        found = judge.judged(sources, mutant)
        assert found.caught, mutant.name
        assert found.laid == mutant.block, found.sentence


def test_what_nobody_can_tell_apart_is_proved(made: Made) -> None:
    """A number in a bit that nothing reads, and a queue that takes what is not offered."""
    needs_tools("yosys")
    _, sources, by_kind = made
    mutant = next(m for m in by_kind["constant"] if "outlet_reserve" in m.what)
    assert same(sources, mutant, 10) == ("same", mutant.module)
    other = by_kind["logic"][0]
    assert same(sources, other, 5)[0] != "same"


def test_rows_add_up() -> None:
    line = {"net": "a", "kind": "rom", "block": "b", "driver": "b", "reader": "c", "seconds": 1.0}
    found = [{**line, "name": str(n), "caught": n < 6} for n in range(10)]
    proofs = {("a", "6"): {"answer": "same", "seconds": 2.0},
              ("a", "7"): {"answer": "differs", "seconds": 2.0}}  # fmt: skip
    (row,) = rows(found, proofs)
    counts = {"mutants": 10, "equivalent": 1, "undecided": 2, "caught": 6, "missed": 3, "named": 6}
    assert {key: row[key] for key in counts} == counts
    assert row["seconds"] == 14.0
    assert "| rom | 10 | 1 | 9 | 6 | 66.7 % | 100.0 % |" in table([row])
    assert not named({**line, "caught": True, "block": "d"})
    assert named({**line, "caught": True, "block": "out_sink", "driver": ""})
