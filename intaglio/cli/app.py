"""The command line as it runs: the command that is asked for alone is imported, and errors become
sentences here."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

import typer
from typer.exceptions import TyperException

from intaglio.cli.shared import ENDING
from intaglio.cli.shared import app as known
from intaglio.cli.usage import sentence
from intaglio.cli.verb import HOMES
from intaglio.errors import IntaglioError, IntaglioWarning
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


def __getattr__(name: str) -> Any:
    """`app`, with every command."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for home in dict.fromkeys(HOMES.values()):
        import_module(f"intaglio.cli.{home}")
    return known


def asked(words: Sequence[str]) -> typer.Typer:
    """The application with the command that the words begin with; with all where that is none, as
    for help, or for a word that must be refused."""
    if words and words[0] in HOMES:
        import_module(f"intaglio.cli.{HOMES[words[0]]}")
        return known
    whole: typer.Typer = __getattr__("app")
    return whole


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
            code = asked(sys.argv[1:])(standalone_mode=False, prog_name="intaglio")
        finally:
            ENDING.close()
            sys.stdout.flush()  # what is printed may be refused too
    except TyperException as error:
        fail(sentence(error))
    except IntaglioError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        from intaglio.system.extras import extra_of, remedy

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
