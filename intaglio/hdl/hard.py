"""What the hard blocks of a family ask of the components around them."""

from dataclasses import dataclass

from amaranth.hdl import Value


@dataclass(frozen=True)
class Hard:
    """Hard blocks, as far as they change what a component is made of.

    late     block RAMs have a register behind their output: engines wait for it, a cycle more.
    operand  bits of a signed operand that a multiplier takes. What is wider is multiplied in parts,
             with a register behind each of them; 0: as the tool likes it.
    """

    late: bool = False
    operand: int = 0

    def cuts(self, bits: int) -> list[int]:
        """Where the parts of an operand begin."""
        return list(range(0, bits - 1, self.operand - 1)) if 0 < self.operand < bits else [0]

    def parts(self, value: Value) -> list[tuple[int, Value]]:
        """The parts of an operand, and where each begins: all but the last have no sign."""
        starts = self.cuts(len(value))
        if len(starts) == 1:
            return [(0, value)]
        found = [(a, value[a:b]) for a, b in zip(starts, [*starts[1:], len(value)], strict=True)]
        if value.shape().signed:
            found[-1] = found[-1][0], found[-1][1].as_signed()
        return found


ANY = Hard()  # of a family of which nothing is known
