"""Every fault that is put into a design, and shows at a port, is found by `verify` as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import seeded
from networks import skip
from seeded import BLOCKS, FAST, FAULTS, QUEUES, small
from tools import needs

from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.running.verify import VerifyResult, verify
from intaglio.program import Program

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("icarus")]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(small(), lanes=60, target="generic")


def judged(bundle: Bundle, fault: str, folder: Path) -> VerifyResult:
    """What `verify` says of the build with a fault; "" for none."""
    seeded.write(bundle, fault, folder)
    inside = "fault" if fault.split(" ")[0] in {**BLOCKS, **QUEUES} else "never"
    return verify(folder, simulator="icarus", inside=inside)


def test_nothing_is_found_where_nothing_is_wrong(bundle: Bundle, tmp_path: Path) -> None:
    needs("icarus")
    result = judged(bundle, "", tmp_path / "build")
    assert (result.passed, result.changed) == (True, ())


@pytest.mark.parametrize("network", [small, skip])
def test_queues_are_as_full_as_predicted(network: Callable[[], Program], tmp_path: Path) -> None:
    """Looked at where nothing is wrong."""
    needs("icarus")
    folder = tmp_path / "build"
    build(network(), lanes=60, target="generic").write(folder)
    result = verify(folder, simulator="icarus", inside="always")
    assert result.inside is not None
    assert (result.passed, result.inside.queues) == (True, ())
    last = result.runs - 1
    told = (folder / "sim" / "events.txt").read_text().splitlines()
    queues = json.loads((folder / "queues.json").read_text())["queues"]
    assert sum(line.startswith(f"held {last} ") for line in told) == len(queues) > 1


@pytest.mark.parametrize(
    "fault",
    [fault if fault.split()[0] in FAST else pytest.param(fault, marks=pytest.mark.slow)
     for fault in FAULTS],
)  # fmt: skip
def test_a_fault_is_found(bundle: Bundle, fault: str, tmp_path: Path) -> None:
    needs("icarus")
    result = judged(bundle, fault, tmp_path / "build")
    assert not result.passed, result.sentence()
    assert result.changed
    queues = QUEUES.get(fault.split()[0])
    if queues is not None:
        assert result.inside is not None
        assert len(result.inside.queues) == 1, result.where()
        assert result.inside.queues[0].startswith(queues)
    block = BLOCKS.get(fault.split()[0])
    if block is not None:
        assert result.inside is not None
        assert result.inside.driver == block, result.where()
        assert result.where().startswith("First wrong inside, of 63 streams between blocks: ")
