"""intaglio: a torch detector, cut into integers, then into hardware.

The verbs of the command line as functions. Each imports only what it needs, so that the simulator
works without torch and without Amaranth.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.api import evaluate as evaluate
    from intaglio.api import quantize as quantize
    from intaglio.codegen.bundle import build as build
    from intaglio.codegen.running.verify import verify as verify
    from intaglio.errors import IntaglioError as IntaglioError
    from intaglio.file import load as load
    from intaglio.file import save as save
    from intaglio.program import Program as Program
    from intaglio.sim.engine import Simulator as Simulator

__version__ = "0.1.0"

_HOMES = {
    "IntaglioError": "intaglio.errors",
    "Program": "intaglio.program",
    "Simulator": "intaglio.sim.engine",
    "build": "intaglio.codegen.bundle",
    "evaluate": "intaglio.api",
    "load": "intaglio.file",
    "quantize": "intaglio.api",
    "save": "intaglio.file",
    "verify": "intaglio.codegen.running.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'intaglio' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
