# amaranth: UnusedElaboratable=no
"""Every remedy that a refusal of `build` names is applied, and must help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from networks import Layers, branches, fork_join, parallel, pyramid, skip, tiny, towers
from strategies import programs

import intaglio
from intaglio.codegen.area.boards import BOARDS, place
from intaglio.codegen.area.devices import DEVICES
from intaglio.codegen.bundle import asked_for
from intaglio.codegen.folding.remedies import helped, narrowed
from intaglio.codegen.structure.fold import rate_of
from intaglio.errors import BuildError, FitError, Remedy
from intaglio.ops import Requant
from intaglio.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

# The refusals in the order in which a build comes to them.
STAGES = (
    r"The (board|target) must be ",
    r"The clock must be ",
    r"(lanes \(--multipliers\) must be at least|--share must not be)",
    r"The weights must fit into ",
    r"fps must be (at most|greater)",
    r"(The design must have at least|fps must be lower than)",
    r"[\w-]+ must have (at least|more LUTs)",
)
KINDS = ("any", "chain", "towers", "pyramid", "fork", "parallel", "few")
# By an option's name, the argument of `intaglio.build`.
NAMES = {"multipliers": "lanes", "clock": "clock_mhz", "no-share": "share"}


def outcome(program: Program, asked: dict[str, Any]) -> BuildError | None:
    """The refusal of a build, None where there is a design; its Verilog is not written."""
    a = {**dict.fromkeys(("target", "board", "fps", "lanes", "share", "clock_mhz")), **asked}
    try:
        where = place(a["target"], a["clock_mhz"], a["board"])
        helped(asked_for(program, where, a["target"], a["fps"], a["lanes"], a["share"],
                         a["clock_mhz"]))  # fmt: skip
    except BuildError as error:
        return error
    return None


def stage(error: BuildError | None) -> int:
    """How far a build came."""
    if error is None:
        return len(STAGES)
    return next(n for n, words in enumerate(STAGES) if re.match(words, str(error)))


def applied(program: Program, asked: dict[str, Any], remedy: Remedy) -> BuildError | None:
    """What becomes of a build with one remedy."""
    if remedy.command == "quantize":
        assert remedy.option == "multiplier-bits"
        assert isinstance(remedy.value, int)
        found = narrowed(program, remedy.value)
        assert found is not None
        return outcome(found.verify() if not program.of_kind(Requant) else found, asked)
    name = NAMES.get(remedy.option, remedy.option)
    return outcome(program, {**asked, name: remedy.value})


def check(program: Program, asked: dict[str, Any]) -> BuildError | None:
    """Each remedy, alone, changes the outcome: the build is made, or is refused further on. Those
    of what does not fit make it fit."""
    error = outcome(program, asked)
    if error is None:
        return None
    for remedy in error.remedies:
        assert remedy.words() in str(error)
        then = applied(program, asked, remedy)
        assert stage(then) > stage(error), f"{error}\n{remedy}\n{then}"
        assert then is None or not isinstance(error, FitError), f"{error}\n{remedy}\n{then}"
    return error


def told(error: BuildError | None) -> str:
    """For Hypothesis' statistics."""
    return f"stage {stage(error)}, {len(error.remedies) if error else 0} remedies"


@st.composite
def networks(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> Program:
    """Any Program, or one of several shapes that are often too large for a small device."""
    wide = draw(st.integers(1, 40))
    kind = draw(st.sampled_from(kinds))
    if kind == "any":
        return draw(programs())
    if kind == "towers":
        return towers(size=(6, 6), channels=draw(st.integers(2, 6)), depth=draw(st.integers(1, 4)))
    if kind == "pyramid":
        return pyramid()
    if kind == "fork":
        return fork_join(draw(st.integers(0, 50)))
    if kind == "parallel":
        return parallel(draw(st.integers(0, 50)))
    if kind == "few":
        return draw(st.sampled_from([tiny(), skip(), branches()]))
    net = Layers((3, 8, 8), seed=wide)
    x, channels = "image", 3
    for n in range(draw(st.integers(1, 9))):
        x = net.conv(
            f"c{n}", x, net.weights(f"w{n}", wide, channels, draw(st.sampled_from([1, 3])))
        )
        channels = wide
    return net.finish([x])


@st.composite
def wishes(draw: st.DrawFn, shares: Sequence[bool | None] = (None, False)) -> dict[str, Any]:
    """Settings of a build, some of which cannot be."""
    found: dict[str, Any] = {}
    board = draw(st.sampled_from([None, None, None, *BOARDS]))
    if board is None:
        found["target"] = draw(
            st.sampled_from(["ice40-up5k", "gowin-gw1nr-9c", "ecp5-25k", *DEVICES])
        )
    else:
        found["board"] = board
        found["target"] = draw(st.sampled_from([None, "ecp5-25k", "ice40-up5k"]))
    found["clock_mhz"] = draw(st.sampled_from([None, None, None, 12.0, 25.0, 13.0, 100.0, 400.0]))
    exponent = draw(st.one_of(st.none(), st.floats(-1, 7)))
    found["fps"] = None if exponent is None else round(10**exponent, 3)
    found["lanes"] = draw(st.sampled_from([None, None, 1, 5, 20, 60, 300, 5000]))
    found["share"] = draw(st.sampled_from(shares))
    return found


@given(networks(("chain", "few")), wishes())
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_every_remedy_helps(program: Program, asked: dict[str, Any]) -> None:
    event(told(check(program, asked)))


@pytest.mark.slow
@given(networks(), wishes((None, None, False, True)))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_every_remedy_of_many_refusals_helps(program: Program, asked: dict[str, Any]) -> None:
    event(told(check(program, asked)))


@dataclass(frozen=True)
class Case:
    """A build that is refused: the words, and the options of its remedies."""

    program: Program
    asked: dict[str, Any]
    words: str
    options: tuple[str, ...]


def cases() -> list[Case]:
    """One for every refusal of a build that names a remedy."""
    deep = towers(size=(6, 6), channels=2, depth=4)
    up5k = {"target": "ice40-up5k"}
    return [
        Case(tiny(), {"board": "icebreaker", "clock_mhz": 13.0}, "build with --clock 12.",
             ("clock",)),
        Case(tiny(), {"board": "ulx3s", **up5k},
             "build with --target ecp5-85k, or build with --target ecp5-25k.",
             ("target", "target")),
        Case(skip(), {"lanes": 9, "share": True},
             "build without --multipliers, or build without --share.",
             ("multipliers", "share")),
        Case(skip(), {"fps": 1e6}, "fps must be at most ", ("fps",)),
        Case(skip(), {"lanes": 3}, "not 3; build with --multipliers 6.", ("multipliers",)),
        Case(skip(), {"lanes": 8, "fps": 20_000.0}, "fps must be lower than 20000 with 8 multip",
             ("multipliers",)),
        Case(deep, {**up5k, "fps": 1000.0, "share": False}, "build without --no-share",
             ("no-share", "target")),
        Case(pyramid(), {**up5k, "lanes": 400}, "ice40-up5k must have at least ", ("target",)),
    ]  # fmt: skip


@pytest.mark.parametrize("case", cases(), ids=lambda c: " ".join(map(str, c.asked.values())))
def test_refusals_and_their_remedies(case: Case) -> None:
    error = check(case.program, case.asked)
    assert error is not None
    assert case.words in str(error)
    assert tuple(remedy.option for remedy in error.remedies) == case.options


def test_what_nothing_helps_says_so() -> None:
    net = Layers((64, 8, 8))
    x = "image"
    for n in range(12):
        x = net.conv(f"c{n}", x, net.weights(f"w{n}", 256, 64 if n == 0 else 256, 3))
    error = outcome(net.finish([x]), {"target": "ice40-up5k"})
    assert isinstance(error, FitError)
    assert not error.remedies
    assert str(error).endswith(
        "; no other target or setting of build makes it fit, so that the network must be smaller."
    )


@given(st.integers(1, 10**9), st.floats(0.1, 500))
def test_a_rate_is_never_more_than_the_cycles_allow(cycles: int, clock: float) -> None:
    rate = rate_of(cycles, clock)
    assert 0.998 * clock * 1e6 <= rate * cycles <= clock * 1e6
    assert float(f"{rate:.10g}") == rate


def test_narrower_multipliers_as_the_program_quantised_again_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The example of the documentation, on an iCEBreaker: what is named is what then happens."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent.parent))
    import numpy as np

    from examples.own_network import skyline
    from intaglio.fixed import preset

    images = np.random.default_rng(0).integers(0, 256, (8, 3, 27, 41), dtype=np.uint8)

    def program(bits: int | None) -> Program:
        arithmetic = preset("intaglio", bits)
        return intaglio.quantize(skyline(), images, wbits=4, abits=4, arithmetic=arithmetic)

    wide = program(None)
    error = check(wide, {"board": "icebreaker"})
    assert error is not None
    assert "must have at least" in str(error)
    narrow, real = narrowed(wide, 16), program(16)
    assert narrow is not None
    same = [replace(p.arithmetic, name="") for p in (narrow, real)]
    assert same[0] == same[1]
    for ours, theirs in zip(narrow.of_kind(Requant), real.of_kind(Requant), strict=True):
        m, n = (p.constants[op.multiplier].array for p, op in ((narrow, ours), (real, theirs)))
        assert int(abs(m).max()).bit_length() == int(abs(n).max()).bit_length()
