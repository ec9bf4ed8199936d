"""Prove one block: the bounded check and the cover."""

from dataclasses import asdict, dataclass
from pathlib import Path

import sby
from amaranth.hdl import Fragment
from harness import Harness
from proofs import Case, Proof


@dataclass(frozen=True)
class Result:
    """Of one proof: what held, to which depth, and the seconds it took."""

    name: str
    block: str
    depth: int
    waits: int
    holds: bool
    failed: tuple[str, ...]
    covered: bool
    seconds: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def check(case: Case, mode: sby.Mode, depth: int, rounds: int, waits: int, at: Path) -> sby.Verdict:
    """One run of SymbiYosys on a block under the harness."""
    harness = Harness(case.block, case.expected, rounds=rounds, waits=waits)
    fragment = Fragment.get(harness, None)
    return sby.run(fragment, harness.free, mode, depth, at)


def prove(proof: Proof, folder: Path) -> Result:
    """Both runs of a proof, in an empty folder."""
    case = proof.case()
    checked = check(case, "bmc", proof.depth, proof.rounds, proof.waits, folder / "bmc")
    case = proof.case()
    covered = check(case, "cover", proof.cover, proof.rounds, proof.waits, folder / "cover")
    return Result(
        name=proof.name,
        block=type(getattr(case.block, "inner", case.block)).__name__,
        depth=proof.depth,
        waits=proof.waits,
        holds=checked.holds,
        failed=checked.failed,
        covered=covered.holds,
        seconds=round(checked.seconds + covered.seconds, 1),
    )
