"""What every valid/ready stream keeps to, whoever designed it, looked at edge by edge.

The benches of builds hold the same rules in Verilog, by these numbers (`bench_check`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Fault(IntEnum):
    """A rule that was broken at a rising clock edge."""

    WITHDRAWN = 1
    CHANGED = 2
    RESET = 3
    UNDEFINED = 4

    @property
    def words(self) -> str:
        """For people."""
        return {
            Fault.WITHDRAWN: "valid fell before the beat was taken; it must hold",
            Fault.CHANGED: "the payload changed before the beat was taken; it must hold",
            Fault.RESET: "valid must be low in reset",
            Fault.UNDEFINED: "valid and the payload with it must be 0s and 1s, not undefined",
        }[self]


@dataclass
class Rules:
    """Looks at one stream, edge by edge.

    A beat that is offered stays until it is taken; in reset, from its second edge on, none is
    offered; and of what is offered no bit is undefined.
    """

    resetting: bool = False
    waiting: bool = False
    kept: object = None

    def look(
        self, valid: bool | None, ready: bool | None, payload: object, *, reset: bool = False
    ) -> Fault | None:
        """What is wrong at this edge; None for an undefined bit, anywhere in a payload too."""
        fault = None
        if reset:
            if self.resetting and valid is not False:
                fault = Fault.RESET
        elif valid is None or (valid and payload is None):
            fault = Fault.UNDEFINED
        elif self.waiting and not valid:
            fault = Fault.WITHDRAWN
        elif self.waiting and payload != self.kept:
            fault = Fault.CHANGED
        self.resetting = reset
        self.waiting = not reset and valid is True and ready is not True
        self.kept = payload
        return fault
