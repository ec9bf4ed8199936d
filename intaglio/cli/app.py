"""Every command in one application, and the one place where errors become sentences."""

import os
import sys
import warnings
from typing import TextIO

from intaglio.cli import (  # noqa: F401  # they add to `app`
    divergence,
    hardware,
    interchange,
    network,
    reporting,
    tracing,
    training,
)
from intaglio.cli.shared import app
from intaglio.errors import IntaglioError, IntaglioWarning

EXTRAS = {
    "torch": "detect",
    "PIL": "detect",
    "pycocotools": "detect",
    "sklearn": "detect",
    "amaranth": "hdl",
    "cocotb_tools": "hdl",
    "onnx": "exchange",
    "onnxruntime": "exchange",
    "qonnx": "qonnx",
    "distributed": "cluster",
}


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: TextIO | None = None, line: str | None = None,
) -> None:  # fmt: skip
    """A warning of ours as one sentence, others as Python shows them."""
    ours = issubclass(category, IntaglioWarning)
    shown = f"intaglio: warning: {message}\n" if ours else None
    text = shown or warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)


def main() -> None:
    """Entry point: a user's mistake is one sentence and exit code 2, without a traceback."""
    warnings.showwarning = show_warning
    try:
        app()
    except IntaglioError as error:
        print(f"intaglio: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"intaglio: {error.name} must be installed for this command:"
            f" pip install 'intaglio[{extra}]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    except MemoryError as error:
        print(
            f"intaglio: The work must fit into memory, but: {error or 'it does not'}; give it"
            " fewer or smaller images at once.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("intaglio: interrupted.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
