"""The command line: parse, call, print."""

from intaglio.cli.app import main

__all__ = ["main"]
