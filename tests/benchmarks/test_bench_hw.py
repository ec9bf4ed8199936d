"""The hardware benchmarks: one file of results, the peer network, boxes compared bit by bit."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import resources
import timing
import torch
from hw_json import put
from resnet8 import ABSENT, Row, page, resnet8
from resnet8_peers import PEERS
from rtl_map import different

from intaglio.api import quantize
from intaglio.detect.decode import Detections


def test_results_are_written_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "hw.json"
    put("b", [1], path)
    put("a", {"net": "x"}, path)
    put("b", [2], path)
    assert json.loads(path.read_text()) == {"a": {"net": "x"}, "b": [2]}


def test_the_peer_network_is_resnet8() -> None:
    """Shapes and 12.5 million multiplications, as MLPerf Tiny's."""
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    program = quantize(resnet8(), images, wbits=4, abits=4, method="minmax")
    assert program.inputs[0].shape == (3, 32, 32)
    assert [t.shape for t in program.outputs] == [(10, 1, 1)]
    stem = 32 * 32 * 16 * 3 * 9
    first = 32 * 32 * 2 * 16 * 16 * 9
    second = 16 * 16 * 32 * (16 * 9 + 32 * 9 + 16)
    third = 8 * 8 * 64 * (32 * 9 + 64 * 9 + 32)
    assert sum(program.macs().values()) == stem + first + second + third + 64 * 10
    again = resnet8().state_dict()
    assert all(torch.equal(again[name], array) for name, array in resnet8().state_dict().items())


def test_the_page_shows_what_was_measured_and_what_was_not() -> None:
    row = Row(4, "ecp5-85k", 75.0, 13_824, 19_993, 12_501_632, 1133, 29_997, 70, 164)
    text = page([row])
    line = next(line for line in text.splitlines() if "| `ecp5-85k` |" in line)
    said = "| 5,425 | 13,824 | 267 (19,993 cycles) | 29,997 | 70 | 164 | estimate | 0 |"
    assert f"| 1,133 | 75 | {ABSENT} {said} {ABSENT} | {ABSENT}, {ABSENT} |" in line
    routed = replace(row, synthesised=True, luts=31_000, fmax_mhz=60.0, seeds=1)
    line = next(line for line in page([routed]).splitlines() if "| `ecp5-85k` |" in line)
    assert (
        "| 75 | 60.0 | 4,340 | 13,824 | 333 (19,993 cycles) | 31,000 | 70 | 164 | yosys |" in line
    )
    for peer in PEERS:
        assert peer.source in text
    finn = next(line for line in text.splitlines() if line.startswith("| FINN |"))
    assert f"| 13,475 | 16,698 | {ABSENT} | {ABSENT} |" in finn


@pytest.mark.parametrize("part", ["boxes", "scores", "labels"])
def test_one_changed_bit_of_a_box_counts(part: str) -> None:
    def found(count: int) -> Detections:
        boxes = np.arange(4 * count, dtype=np.float64).reshape(count, 4)
        return Detections(boxes, 0.9 ** np.arange(count), np.arange(count))

    changed = found(5)
    getattr(changed, part)[2] += 1e-12 if part != "labels" else 1
    assert different(found(5), found(5)) == 0
    assert different(found(5), changed) == 1
    assert different(changed, found(3)) == 3


def routed(seed: int, fmax: float, clock: float = 75) -> timing.Row:
    return timing.Row("net", "ecp5-85k", seed, clock, fmax, 100.5, 746_496, 900, 800, 2, 4.5, 61.4)


def test_a_seed_takes_the_place_of_its_older_row_and_another_clock_that_of_the_design() -> None:
    other = replace(routed(1, 20.0), net="another")
    old = [routed(1, 70.0), routed(2, 71.0), other]
    assert timing.merged(old, routed(2, 80.0)) == [other, routed(1, 70.0), routed(2, 80.0)]
    assert timing.merged(old, routed(3, 80.0, 60)) == [other, routed(3, 80.0, 60)]


def test_the_best_seed_must_reach_the_clock() -> None:
    assert timing.met([routed(1, 60.0), routed(2, 75.0)])
    assert not timing.met([routed(1, 60.0), routed(2, 74.99)])


def test_a_missed_clock_fails_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that are there are judged, not measured again."""
    results, docs = tmp_path / "hw.json", tmp_path / "hardware.md"
    docs.write_text(f"Before.\n{timing.START}old\n{timing.END}After.\n")
    monkeypatch.setattr(timing, "HW_JSON", results)
    monkeypatch.setattr(timing, "PAGE", docs)
    monkeypatch.setattr(timing, "DESIGNS", (timing.Design("net", "ecp5-85k", 75, timing.skip),))
    monkeypatch.setattr("sys.argv", ["timing.py", "--seeds", "2"])
    for best, code in ((74.9, 1), (75.0, 0)):
        put("timing", [asdict(routed(1, 70.0)), asdict(routed(2, best))], results)
        assert timing.main() == code
        line = f"| 75 | 70.0, {best} | 100.5 | 900 | 800 | 2 | 4.5 | 61, 61 |"
        assert line in capsys.readouterr().out
        assert line in docs.read_text()
        assert "old" not in docs.read_text()
        assert docs.read_text().startswith("Before.\n")
        assert docs.read_text().endswith("After.\n")


def test_the_table_of_errors_counts_what_is_equal() -> None:
    rows = [
        {"net": net, "target": "ecp5-85k", "kind": kind, "predicted": p, "synthesised": q}
        for net, values in (("a", ((110, 100), (9, 10), (1, 1), (0, 0))),
                            ("b", ((100, 100), (10, 10), (2, 1), (3, 3))))
        for (kind, _), (p, q) in zip(resources.KINDS, values, strict=True)
    ]  # fmt: skip
    text = resources.table(rows)
    assert "| `ecp5-85k` | LUT | 2 | 1 | 5.0% | +10.0% |" in text
    assert "| `ecp5-85k` | block RAM | 2 | 1 | 50.0% | +100.0% |" in text
    assert "| a | `ecp5-85k` | 110 / 100 | 9 / 10 | 1 / 1 | 0 / 0 |" in text
    names = [(case.name, case.target) for case in resources.cases()]
    assert len(names) == len(set(names)) >= 12
