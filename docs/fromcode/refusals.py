"""The sentences with which the code refuses something, read from its source."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fromcode.markdown import ROOT

GAP = "…"  # where the code puts a name or a number


def said(node: ast.AST) -> str:
    """The text of an expression, GAP for what is known only when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(said(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return said(left) + said(right)
    return GAP


def sentences(tree: ast.AST) -> Iterator[str]:
    """Of every `SomethingError(...)`, `fail(...)`, `refuse(...)` and `refused(...)` in a tree."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name.endswith(("Error", "BadParameter", "Exit")) or name in (
            "refuse",
            "refused",
            "fail",
        ):
            yield from (" ".join(said(arg).split()) for arg in node.args if said(arg) != GAP)


def tabled(tree: ast.Module) -> Iterator[str]:
    """The texts of names in capitals, which are remedies in tables and sentences kept apart."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id.isupper():
                texts = (each for each in ast.walk(node.value) if isinstance(each, ast.Constant))
                yield from (each.value for each in texts if isinstance(each.value, str))


def everywhere() -> set[str]:
    """Every sentence of the package."""
    found: set[str] = set()
    for file in sorted(Path(ROOT / "intaglio").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found |= {*sentences(tree), *tabled(tree)}
    return found


def of(function: Callable[..., Any]) -> list[str]:
    """Of a function and of those of its own module that it calls, in order."""
    todo, seen, found = [function], {function}, []
    while todo:
        each = todo.pop(0)
        tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        found += [s for s in sentences(tree) if s not in found]
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for other in (each.__globals__.get(name) for name in sorted(names)):
            own = inspect.isfunction(other) and other.__module__ == function.__module__
            if own and other not in seen:
                seen.add(other)
                todo.append(other)
    return found
