"""The command line: words in, one call each, sentences and JSON out.

`app` has every command and turns errors into sentences; `shared` is what the commands share,
`options` what their options do, `verb` how their words are read, `results` where what they write
goes. They are imported once Ctrl-C is a sentence too.
"""

import gc
import sys
from contextlib import suppress

from intaglio.system.interrupts import State, raised

GARBAGE = 20_000  # new objects between two searches for garbage; Python's 700 take a fifteenth of
# the time of a short command, which keeps most of what it makes


def main() -> None:
    """Entry point: a user's mistake is one sentence and exit code 2, without a traceback; of an
    interruption, 128 and the signal."""
    gc.set_threshold(GARBAGE)
    try:
        with raised():
            from intaglio.cli.app import run

            run()
    except BaseException:  # libraries make other errors of an interruption
        if State.stopped is None:
            raise
    finally:
        from intaglio.system.places import forget

        forget()
    stopped, State.stopped = State.stopped, None
    if stopped is not None:
        with suppress(OSError):
            print("intaglio: interrupted.", file=sys.stderr)
        sys.exit(stopped.code)


__all__ = ["main"]
