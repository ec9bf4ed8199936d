"""`python -m intaglio.cli`: the command line where its script is not on the path."""

from intaglio.cli import main

main()
