"""intaglio: a torch detector, cut into integers, then into hardware.

The verbs of the command line as functions, and what they give. Each imports only what it needs, so
that the simulator works without torch and without Amaranth.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.api import evaluate as evaluate
    from intaglio.api import quantize as quantize
    from intaglio.api import train as train
    from intaglio.chip.bitstream import bitstream as bitstream
    from intaglio.codegen.bundle import build as build
    from intaglio.codegen.running.verify import verify as verify
    from intaglio.errors import IntaglioError as IntaglioError
    from intaglio.file import load as load
    from intaglio.file import save as save
    from intaglio.gallery import run as run
    from intaglio.program import Program as Program
    from intaglio.sim.engine import Simulator as Simulator
    from intaglio.system.steps import Steps as Steps

__version__ = "0.1.0"

_HOMES = {
    "IntaglioError": "intaglio.errors",
    "Program": "intaglio.program",
    "Simulator": "intaglio.sim.engine",
    "Steps": "intaglio.system.steps",
    "bitstream": "intaglio.chip.bitstream",
    "build": "intaglio.codegen.bundle",
    "evaluate": "intaglio.api",
    "load": "intaglio.file",
    "quantize": "intaglio.api",
    "run": "intaglio.gallery",
    "save": "intaglio.file",
    "train": "intaglio.api",
    "verify": "intaglio.codegen.running.verify",
}
__all__ = [
    "IntaglioError",
    "Program",
    "Simulator",
    "Steps",
    "bitstream",
    "build",
    "evaluate",
    "load",
    "quantize",
    "run",
    "save",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'intaglio' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
