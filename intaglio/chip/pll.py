"""The cells of phase-locked loops."""

from typing import Any

from amaranth.hdl import Const, Instance, Signal

from intaglio.codegen.area.clocks import Pll

FILTERS = ((17, 1), (26, 2), (44, 3), (66, 4), (101, 5), (134, 6))  # iCE40: below MHz, its range


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
