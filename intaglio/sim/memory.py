"""What the fast engine allocates for a Program, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.program import Program
from intaglio.sim.isa import Isa, choose
from intaglio.sim.plan import make_plan
from intaglio.sim.workspace import Binder


@dataclass(frozen=True)
class Memory:
    """Bytes of a `Simulator`.

    weights   packed for the kernels; once, however many threads run.
    buffers   of tensors, those not alive at the same time in the same ones; for each image that is
              run at a time.
    scratch   in which one operation works; the same. Not all of it need be touched.
    """

    weights: int
    buffers: int
    scratch: int

    def sentence(self) -> str:
        """One line for people."""
        weights, buffers, scratch = (
            f"{size / 1024:.1f} KiB" for size in (self.weights, self.buffers, self.scratch)
        )
        return (
            f"simulator: packed weights {weights}; a thread's buffers {buffers}, scratch {scratch}"
        )


def planned(program: Program, isa: Isa | None = None) -> Memory:
    """The memory planned with the instructions `isa`; default: the best here."""
    plan = make_plan(program, isa=choose(isa))
    binder = Binder(plan, workers=1)
    shared = {id(sums): sums.weight.nbytes for sums in plan.sums.values()}
    owners = {id(array.base): array.base for array in binder.arrays.values()}
    return Memory(
        sum(shared.values()),
        sum(owner.nbytes for owner in owners.values() if owner is not None),
        sum(buffer.nbytes for buffer in binder.scratch.values()),
    )
