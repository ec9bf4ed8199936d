"""Prove one block, for ever or to a depth, and cover it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import sby
from amaranth.hdl import Fragment
from harness import Harness
from proofs import Case, Proof

LIMIT = 1000  # seconds for a proof for ever


@dataclass(frozen=True)
class Result:
    """Of one proof: what held, to which depth (None: for ever), and the seconds it took."""

    name: str
    block: str
    depth: int | None
    waits: int
    holds: bool
    failed: tuple[str, ...]
    covered: bool
    seconds: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def harness(case: Case, rounds: int, waits: int) -> tuple[Fragment, list[object]]:
    """A block under its claims, and what the solver chooses."""
    held = Harness(case.block, case.expected, rounds=rounds, waits=waits)
    return Fragment.get(held, None), held.free


def check(case: Case, mode: sby.Mode, depth: int, rounds: int, waits: int, at: Path) -> sby.Verdict:
    """One run of SymbiYosys on a block under the harness."""
    return sby.run(*harness(case, rounds, waits), mode, depth, at)


def forever(case: Case, rounds: int, waits: int, at: Path) -> sby.Verdict:
    """A proof without a depth. Where it fails, a bounded check finds the claims that do."""
    endless = sby.forever(*harness(case, rounds, waits), LIMIT, at / "pdr")
    if endless.holds is False:
        found = check(case, "bmc", endless.cycles, rounds, waits, at / "bmc")
        assert not found.holds, "both solvers must find the fault"
        return found
    failed = () if endless.holds else (f"no verdict within {LIMIT} seconds",)
    return sby.Verdict(not failed, failed, endless.seconds, "")


def prove(proof: Proof, folder: Path) -> Result:
    """Both runs of a proof, in an empty folder."""
    case = proof.case()
    if proof.depth is None:
        checked = forever(case, proof.rounds, proof.waits, folder)
    else:
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
