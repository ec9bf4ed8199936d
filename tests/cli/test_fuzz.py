"""No command line, whatever its words, ends in a traceback: it works, or a sentence refuses it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import command_fuzz as fuzz
import pytest

SAMPLE = 12  # of each command; 200 in all


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuzz.Workplace]:
    """Small inputs, and stubs for what takes long."""
    made = fuzz.Workplace(tmp_path_factory.mktemp("fuzz") / "here")
    with fuzz.short_work():
        yield made


def check(place: fuzz.Workplace, lines: list[fuzz.Words]) -> None:
    """Every line, and all faults at once."""
    answers = [place.call(words) for words in lines]
    faults = [f"{' '.join(a.words)[:200]}\n{fault[-600:]}" for a in answers if (fault := a.fault())]
    assert not faults, "\n\n".join(faults[:20])
    codes = Counter(answer.code for answer in answers)
    assert min(codes[0], codes[2]) > len(lines) / 10  # neither side is all there is


def test_words_of_every_kind_are_taken_or_refused(place: fuzz.Workplace) -> None:
    every = list(fuzz.cases())
    assert len(every) > 5000
    chosen = random.Random(22)
    lines = []
    for name in fuzz.commands():
        lines += chosen.sample([words for words in every if words[0] == name], SAMPLE)
    assert len(lines) >= 200
    check(place, lines)


@pytest.mark.slow
def test_all_words_are_taken_or_refused(place: fuzz.Workplace) -> None:
    check(place, list(fuzz.cases()))


@pytest.mark.slow
def test_two_odd_words_at_once_are_taken_or_refused(place: fuzz.Workplace) -> None:
    check(place, fuzz.mixed(1000, seed=7))
