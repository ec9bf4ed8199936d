"""The command line: words in, one call each, sentences and JSON out.

`app` has every command and turns errors into sentences; `shared` is what the commands share,
`options` what their options do, `verb` how their words are read.
"""

import sys


def main() -> None:
    """Entry point; see `app.main`, whose import takes a moment that Ctrl-C may fall into."""
    try:
        from intaglio.cli.app import main as run
    except KeyboardInterrupt:
        print("intaglio: interrupted.", file=sys.stderr)
        sys.exit(130)
    run()


__all__ = ["main"]
