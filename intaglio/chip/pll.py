"""Phase-locked loops: the dividers that make one clock of another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const, Instance, Signal

from intaglio.errors import BuildError

CLOSE = 0.98  # of the clock asked for: the slowest that passes for it
FILTERS = ((17, 1), (26, 2), (44, 3), (66, 4), (101, 5), (134, 6))  # iCE40: below MHz, its range


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
        near = min(settings(family, source_mhz), key=lambda p: abs(p.mhz - wanted_mhz))
        raise BuildError(
            f"The clock must be one that a PLL makes of the board's {source_mhz:g} MHz, not"
            f" {wanted_mhz:g} MHz; build again with --clock {near.mhz:g}."
        )
    return best


def settings(family: str, source_mhz: float) -> Iterator[Pll]:
    """Every loop within the limits, which are those of the open tools' ecppll and icepll.

    ECP5: phase detector 3.125 to 400 MHz, oscillator 400 to 800 MHz, feedback from the output.
    iCE40: phase detector 10 to 133 MHz, oscillator 533 to 1066 MHz, output 16 to 275 MHz.
    """
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


def instance(loop: Pll, source: Signal, made: Signal, locked: Signal) -> Instance:
    """The cell, its input `source` a pin."""
    if loop.family == "ice40":
        bounds = (number for below, number in FILTERS if loop.source_mhz / loop.reference < below)
        return Instance(
            "SB_PLL40_PAD", p_FEEDBACK_PATH="SIMPLE", p_DIVR=Const(loop.reference - 1, 4),
            p_DIVF=Const(loop.feedback - 1, 7), p_DIVQ=Const(loop.output.bit_length() - 1, 3),
            p_FILTER_RANGE=Const(next(bounds), 3), i_PACKAGEPIN=source, i_RESETB=Const(1),
            i_BYPASS=Const(0), o_PLLOUTGLOBAL=made, o_LOCK=locked,
        )  # fmt: skip
    # The attributes are the loop filter's, as the open tools set it for every frequency.
    filters: dict[str, Any] = {
        "a_ICP_CURRENT": "12", "a_LPF_RESISTOR": "8",
        "a_MFG_ENABLE_FILTEROPAMP": "1", "a_MFG_GMCREF_SEL": "2",
    }  # fmt: skip
    return Instance(
        "EHXPLLL", p_CLKI_DIV=loop.reference, p_CLKFB_DIV=loop.feedback,
        p_CLKOP_DIV=loop.output, p_CLKOP_ENABLE="ENABLED", p_CLKOP_CPHASE=loop.output - 1,
        p_CLKOP_FPHASE=0, p_FEEDBK_PATH="CLKOP", p_OUTDIVIDER_MUXA="DIVA", i_CLKI=source,
        i_CLKFB=made, i_RST=Const(0), i_STDBY=Const(0), i_PHASESEL0=Const(0), i_PHASESEL1=Const(0),
        i_PHASEDIR=Const(1), i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0),
        i_ENCLKOP=Const(0), o_CLKOP=made, o_LOCK=locked, **filters,
    )  # fmt: skip
