"""Docstrings and signatures, written to be read in the source, as autodoc expects them."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from textwrap import dedent
from typing import Any

CODE = re.compile(r"``[^`]+``|`[^`]+`")
MARKS = re.compile(r"([\\*|]|(?<=\w)_(?!\w))")
FIELD = re.compile(r"^(?P<name>[\w.,*`/ -]*?\S) {2,}(?P<text>\S.*)$")


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """The lines between empty lines."""
    found: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            found.append(line)
        elif found:
            yield found
            found = []


def escaped(line: str) -> str:
    """`line` with no mark in it but code between backticks."""
    parts, at = [], 0
    for code in CODE.finditer(line):
        parts += [MARKS.sub(r"\\\1", line[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, MARKS.sub(r"\\\1", line[at:])])


def fields(lines: list[str]) -> list[tuple[str, list[str]]] | None:
    """Names in a column and what is said of each; None where the paragraph is no such list."""
    found: list[tuple[str, list[str]]] = []
    indent = len(lines[0]) - len(lines[0].lstrip())
    for line in lines:
        field = FIELD.match(line[indent:]) if line[indent : indent + 1].strip() else None
        if field is not None:
            found.append((field["name"], [field["text"]]))
        elif found and line.startswith(" " * (indent + 2)):
            found[-1][1].append(line.strip())
        else:
            return None
    return found


def marked(lines: list[str]) -> list[str]:
    """reStructuredText of a docstring."""
    out: list[str] = []
    for paragraph in paragraphs(lines):
        columns = fields(paragraph)
        if columns is not None:
            for name, text in columns:
                out += [f"``{name.replace('`', '')}``", *(f"    {escaped(t)}" for t in text)]
        elif paragraph[0].startswith("    "):
            out += ["::", "", *(f"    {line}" for line in dedent("\n".join(paragraph)).split("\n"))]
        elif re.match(r"[-*] |\d+\. ", paragraph[0]):
            out += [paragraph[0][:2] + escaped(paragraph[0][2:])] + [
                line[:2] + escaped(line[2:]) for line in paragraph[1:]
            ]
        else:
            out += [escaped(line.strip()) for line in paragraph]
        out.append("")
    return out


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's `autodoc-process-docstring`."""
    lines[:] = marked(lines)


@cache
def with_types(module: str) -> None:
    """Import what a module imports for its annotations alone, so that they have a meaning."""
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            exec(compile(ast.Module(node.body, []), module, "exec"), vars(sys.modules[module]))


def before(app: Any, obj: Any, bound: bool) -> None:
    """Sphinx's `autodoc-before-process-signature`."""
    module = getattr(obj, "__module__", None) or ""
    if module.startswith("intaglio."):
        with_types(module)


def signature(app: Any, what: str, name: str, obj: Any, options: Any,
              given: str | None, result: str | None) -> tuple[str | None, str | None]:  # fmt: skip
    """Sphinx's `autodoc-process-signature`: a default that is no Python would spoil all of it."""
    return given and re.sub("<[^<>]*>", "...", given), result
