"""What verification found, as a value, a sentence and a card of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from intaglio.codegen.running.inside import Inside
from intaglio.codegen.running.noted import Broken
from intaglio.cosim.score import Mismatch
from intaglio.stimulus.coverage import Coverage
from intaglio.system.html import cards, snippet, tag, text_of

CycleRule = Literal["predicted", "ignore"]
LookRule = Literal["fault", "always", "never"]  # when streams between blocks are compared


@dataclass(frozen=True)
class Judged:
    """An output: beats compared, beats that differ, and the first of them."""

    tensor: str
    origin: str
    beats: int
    mismatches: int
    first: Mismatch | None


def first_of(judged: Sequence[Judged]) -> Mismatch | None:
    """The first beat that differs, over all outputs."""
    found = [one.first for one in judged if one.first is not None]
    return min(found, key=lambda m: (m.run or 0, m.cycle), default=None)


@dataclass(frozen=True)
class VerifyResult:
    """frames played in how many runs, each from a reset; beats compared, beats that differ, and the
    first of them.

    broken     rules of the protocol that an output broke, the earliest first.
    inside     after a mismatch or a broken rule, the first stream between blocks that is wrong.
    unpredicted  the first frame of an output that begins or ends in another cycle than predicted.
    cycles_per_frame, latency_cycles  as measured in the run without pauses (None without such a
               run, after a mismatch, and the interval with one frame) and as predicted for as many
               frames. Latency is counted from reset to the first frame's last beat.
    cycles     whether other cycles than predicted are a failure.
    seed       of the pauses.
    changed    files that are not those that the build wrote; they were judged as they are.
    stopped    whether nothing more was played behind the first wrong beat, but for a frame's time.
    outputs    each output by itself.
    coverage   what the frames meet inside the Program.
    """

    frames: int
    runs: int
    beats: int
    mismatches: int
    first_mismatch: Mismatch | None
    broken: tuple[Broken, ...]
    inside: Inside | None
    unpredicted: Broken | None
    cycles_per_frame: int | None
    predicted_cycles_per_frame: int
    latency_cycles: int | None
    predicted_latency_cycles: int
    cycles: CycleRule
    simulator: str
    stalls: bool
    seed: int
    changed: tuple[str, ...]
    seconds: float
    stopped: bool = False
    outputs: tuple[Judged, ...] = field(default=(), repr=False)
    coverage: Coverage | None = field(default=None, repr=False)

    @property
    def passed(self) -> bool:
        """Nothing differs, no rule is broken, and the cycles are the predicted ones or ignored, at
        every port and, where that was looked at, inside."""
        return not (self.mismatches or self.broken or self.wrong_inside) and self.in_time

    @property
    def wrong_inside(self) -> bool:
        """Whether a stream between blocks is wrong."""
        return self.inside is not None and self.inside.driver is not None

    @property
    def in_time(self) -> bool:
        """Whether the cycles are the predicted ones, not measured, or ignored."""
        measured = self.cycles_per_frame
        same = measured is None or measured == self.predicted_cycles_per_frame
        return self.cycles == "ignore" or (same and self.unpredicted is None)

    def to_json(self) -> dict[str, Any]:
        """Every field, and `passed`."""
        return {"passed": self.passed, **asdict(self)}

    def _repr_html_(self) -> str:
        facts = {
            "result": self.found(), "frames": self.frames, "runs": self.runs,
            "beats compared": f"{self.beats:,}", "beats that differ": self.differing,
            "simulator": self.simulator + ", random stalls" * self.stalls,
        }  # fmt: skip
        if self.cycles_per_frame is not None:
            facts["cycles a frame"] = f"{self.cycles_per_frame:,}"
            facts["predicted"] = f"{self.predicted_cycles_per_frame:,}"
        return snippet("Verification", cards(facts), tag("p", text_of(self.sentence())))

    def found(self) -> str:
        """The result in a few words."""
        if self.mismatches:
            return f"{self.differing} differ"
        if self.broken:
            return "all equal, but the protocol is broken"
        if not self.in_time:
            return "all equal, but in other cycles"
        return "all equal, but not inside" if self.wrong_inside else "all equal"

    @property
    def differing(self) -> str:
        """How many, in words."""
        return f"{'at least ' * self.stopped}{self.mismatches:,}"

    def sentence(self) -> str:
        """The result in one sentence."""
        how = " with random stalls" if self.stalls else f" in {self.runs} runs" * (self.runs > 1)
        head = f"{self.frames} frames{how}, {self.beats:,} beats compared in {self.simulator}"
        if how:
            head += f", seed {self.seed}"
        if self.first_mismatch is not None:
            return f"{head}: {self.differing} differ, first {self.first_mismatch.sentence()}"
        text = f"{head}: all equal"
        wrong = self.broken[0] if self.broken else self.unpredicted
        if wrong is not None:
            text += f", but {wrong.sentence()}"
        if self.cycles_per_frame is not None:
            text += (
                f"; {self.cycles_per_frame:,} cycles a frame, predicted"
                f" {self.predicted_cycles_per_frame:,}"
            )
        if self.latency_cycles is not None:
            text += (
                f"; latency {self.latency_cycles:,}, predicted {self.predicted_latency_cycles:,}"
            )
        return f"{text}; {self.seconds:.0f} s"

    def where(self) -> str:
        """Where inside it is first wrong; "" where nobody looked."""
        return "" if self.inside is None or self.passed else self.inside.sentence()

    def state(self) -> str:
        """Whether what was judged is what was built, in one line."""
        if not self.changed:
            return "Every file is as it was built."
        more = f" and {len(self.changed) - 3} more" if len(self.changed) > 3 else ""
        files = ", ".join(self.changed[:3])
        return f"Not what was built: {files}{more} changed since; judged as it stands."
