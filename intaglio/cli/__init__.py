"""The command line: words in, one call each, sentences and JSON out.

`app` has every command and turns errors into sentences; `shared` is what the commands share.
"""

from intaglio.cli.app import main

__all__ = ["main"]
