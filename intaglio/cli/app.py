"""Every command in one application, and the one place where errors become sentences."""

import errno
import os
import sys
import warnings
from contextlib import suppress
from typing import TextIO

import typer
from typer.exceptions import TyperException

from intaglio.cli import (  # noqa: F401  # they add to `app`
    divergence,
    hardware,
    interchange,
    network,
    reporting,
    tracing,
    training,
)
from intaglio.cli.shared import ENDING, app
from intaglio.cli.usage import sentence
from intaglio.errors import IntaglioError, IntaglioWarning
from intaglio.system.extras import extra_of, remedy
from intaglio.system.interrupts import State

INTERRUPTED = 130  # 128 + SIGINT, as shells have it; the parser says so by this code alone

# What a disk, a file system or a limit refuses; other system errors are mistakes of intaglio's own.
REFUSED = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "write elsewhere, or change who may write there",
    errno.EPERM: "write elsewhere, or change who may write there",
    errno.EIO: "write elsewhere",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close some programs",
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


def run() -> None:
    """The command line: a user's mistake is one sentence and exit code 2, without a traceback."""
    warnings.showwarning = show_warning
    code: int | None = None
    try:
        try:
            code = app(standalone_mode=False, prog_name="intaglio")
        finally:
            ENDING.close()
            sys.stdout.flush()  # what is printed may be refused too
    except TyperException as error:
        fail(sentence(error))
    except IntaglioError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if error.name is None or extra is None:
            raise
        fail(
            f"{error.name} must be installed for this command, with the extra {extra}:"
            f" {remedy(error.name)}"
        )
    except MemoryError as error:
        fail(
            f"The work must fit into memory, but: {error or 'it does not'}; give it fewer or"
            " smaller images at once."
        )
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError as error:
        fail(refusal(error))
    if code == INTERRUPTED:
        fail("interrupted.", code)
    sys.exit(code)


def refusal(error: OSError) -> str:
    """What the system refused, as a sentence. Raises the error where it is intaglio's mistake."""
    if error.errno == errno.ENOENT and "temporary directory" in str(error):
        return f"A temporary folder must be writable, not: {error.strerror}; set TMPDIR to another."
    remedy = REFUSED.get(error.errno or 0)
    if remedy is None:
        raise error
    what = error.filename if isinstance(error.filename, str) else "What is written"
    return f"{what} must be writable, not: {error.strerror}; {remedy}."


def fail(text: str, code: int = 2) -> None:
    """End with a sentence on the standard error, even where nothing more can be printed."""
    silence(sys.stdout)
    if State.stopped is not None:  # what went wrong did so because of that
        raise State.stopped
    line = " ".join(text.split())  # what other programs say may have several
    end = "" if line[-1:] in (".", "?", "!") else "."
    with suppress(OSError):
        print(f"intaglio: {line}{end}", file=sys.stderr, flush=True)
    sys.exit(code)


def silence(stream: TextIO) -> None:
    """What is still to be printed goes nowhere: Python would print it at its end, and fail."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
