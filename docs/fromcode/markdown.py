"""Pieces of Markdown."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MARKS = re.compile(r"([\\`*_<>\[\]|#])")


def escaped(text: str) -> str:
    """Text in which Markdown finds no marks."""
    return MARKS.sub(r"\\\1", text)


def prose(text: str) -> str:
    """A docstring's text, its `code` as it is."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if n % 2 else escaped(part) for n, part in enumerate(parts))


def code(words: Iterable[object]) -> str:
    """Words as code, with commas."""
    return ", ".join(f"`{word}`" for word in words)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
