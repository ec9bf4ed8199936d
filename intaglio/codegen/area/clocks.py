"""The dividers that make one clock of another, in phase-locked loops (`chip.pll` has their cells),
and the bits of a serial line."""

from collections.abc import Iterator
from dataclasses import dataclass

from intaglio.errors import BuildError, Remedy

LOOPS = ("ecp5", "ice40")  # families whose loops are known here
FASTEST = 10_000  # MHz; more is no clock of a device
CLOSE = 0.98  # of the clock asked for: the slowest that passes for it


@dataclass(frozen=True)
class Pll:
    """Dividers: of the reference, in the feedback, of the output; for ECP5 as they are, for iCE40
    as DIVR + 1, DIVF + 1 and 2**DIVQ. mhz is what comes out."""

    family: str
    source_mhz: float
    reference: int
    feedback: int
    output: int

    @property
    def mhz(self) -> float:
        """The clock made."""
        made = self.source_mhz * self.feedback / self.reference
        return made if self.family == "ecp5" else made / self.output


def pll(family: str, source_mhz: float, wanted_mhz: float) -> Pll:
    """The loop that comes nearest to `wanted_mhz` from below, with the fastest reference.

    Raises BuildError where that is more than 2 % below.
    """
    loops = [loop for loop in settings(family, source_mhz) if loop.mhz <= wanted_mhz * (1 + 1e-9)]
    best = max(loops, key=lambda p: (round(p.mhz, 9), -p.reference, -p.output), default=None)
    if best is None or best.mhz < CLOSE * wanted_mhz:
        made = [source_mhz, *(loop.mhz for loop in settings(family, source_mhz))]
        near = min(made, key=lambda mhz: abs(mhz - wanted_mhz))
        raise BuildError(
            f"The clock must be one that a PLL makes of the board's {source_mhz:g} MHz, not"
            f" {wanted_mhz:g} MHz",
            (Remedy("clock", near),),
        )
    return best


def settings(family: str, source_mhz: float) -> Iterator[Pll]:
    """Every loop within the limits, which are those of the open tools' ecppll and icepll.

    ECP5: phase detector 3.125 to 400 MHz, oscillator 400 to 800 MHz, feedback from the output.
    iCE40: phase detector 10 to 133 MHz, oscillator 533 to 1066 MHz, output 16 to 275 MHz.
    Others: none.
    """
    if family not in LOOPS:
        return
    if family == "ecp5":
        for reference in range(1, 129):
            if 3.125 <= source_mhz / reference <= 400:
                for feedback in range(1, 81):
                    made = source_mhz / reference * feedback
                    output = max(1, int(800 // made)) if made <= 800 else 0
                    if 1 <= output <= 128 and made * output >= 400:
                        yield Pll(family, source_mhz, reference, feedback, output)
    else:
        for reference in range(1, 17):
            detector = source_mhz / reference
            for feedback in range(1, 129):
                if 10 <= detector <= 133 and 533 <= detector * feedback <= 1066:
                    loops = (
                        Pll(family, source_mhz, reference, feedback, 1 << q) for q in range(1, 7)
                    )
                    yield from (loop for loop in loops if 16 <= loop.mhz <= 275)


def check_clock(clock_mhz: float) -> None:
    """Raises BuildError for what is no clock of a device."""
    if not 0 < clock_mhz <= FASTEST:
        raise BuildError(
            f"The clock must be greater than 0 and at most {FASTEST:,} MHz, not {clock_mhz:g}."
        )


def divisor(clock_hz: float, baud: int) -> int:
    """Cycles of a bit of a serial line. Raises BuildError where sampling would drift more than 2 %
    of a bit each."""
    cycles = round(clock_hz / baud) if baud else 0
    if cycles < 4 or abs(clock_hz / baud / cycles - 1) > 0.02:
        raise BuildError(
            f"The baud rate must be a clock of {clock_hz / 1e6:g} MHz divided by a whole number"
            f" of at least 4, within 2 %, not {baud}."
        )
    return cycles
