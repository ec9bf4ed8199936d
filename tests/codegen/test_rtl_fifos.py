"""Queues in RTL: deep enough for every pause, and not a place deeper than they must be."""

from pathlib import Path

import pytest
from networks import fork_join, pyramid
from shallow import Design
from tools import needs

pytestmark = [
    pytest.mark.rtl,
    pytest.mark.xdist_group("icarus"),
    pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable"),
]


def check(design: Design) -> list[str]:
    """What each queue of more than one place shows when it has a place less."""
    plain = design.play()
    assert (plain.interval, plain.mismatches) == (design.schedule.interval, 0)
    for stalls in (1, 2):
        paused = design.play(stalls=stalls)
        assert (paused.finished, paused.mismatches) == (True, 0)
    queues = list(design.shallow())
    assert all(queue.shows in ("loss", "deadlock") for queue in queues), queues
    return [queue.shows for queue in queues]


@pytest.mark.parametrize(("seed", "extra", "some"), [(33, 5, "deadlock"), (9, 45, "loss")])
def test_a_place_less_shows_in_random_forks_and_joins(
    seed: int, extra: int, some: str, tmp_path: Path
) -> None:
    needs("icarus")
    assert some in check(Design(fork_join(seed), extra, tmp_path))


@pytest.mark.slow
def test_a_place_less_shows_in_a_detector(tmp_path: Path) -> None:
    needs("icarus")
    assert check(Design(pyramid(size=(12, 14)), 20, tmp_path))
