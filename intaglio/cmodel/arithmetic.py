"""The integer arithmetic in C: functions of `intaglio.fixed`, translated from their source.

They are written in operators that Python and C share. All values are int64_t, which holds every
value that a verified Program can meet (`fixed.EXACT_LIMIT`); `>>` of a negative value rounds down,
which intaglio.c asserts of the compiler, and a float is IEEE 754's, rounded to nearest.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

from intaglio import fixed

PREFIX = "fixed_"
SHARED: tuple[Callable[..., Any], ...] = (
    *fixed.ROUNDINGS.values(),
    fixed.clamp,
    fixed.wrap,
    fixed.single,
    fixed.scaled_single,
    fixed.summed_single,
)
RESERVED = {"signed", "double", "int", "float", "long", "short", "unsigned", "char", "const"}
CASTS = {"int64": "int64_t", "float32": "float"}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.Eq: "==",
}


def header() -> str:
    """The file fixed.h."""
    cases = "".join(
        f"    case {n}: return {PREFIX}{rule.__name__}(t, s); /* {name} */\n"
        for n, (name, rule) in enumerate(fixed.ROUNDINGS.items())
    )
    return (
        "/* Integer arithmetic, translated from intaglio/fixed.py: docs/arithmetic.md says what it"
        " is. */\n"
        "#ifndef INTAGLIO_FIXED_H\n#define INTAGLIO_FIXED_H\n\n#include <stdint.h>\n\n"
        + "\n".join(function(each) for each in SHARED)
        + f"\nstatic inline int64_t {PREFIX}round_shift(int rounding, int64_t t, int64_t s) {{\n"
        f"  switch (rounding) {{\n{cases}  }}\n  return 0;\n}}\n\n#endif\n"
    )


def rounding(name: str) -> int:
    """The number by which fixed.h knows a rounding."""
    return list(fixed.ROUNDINGS).index(name)


def function(each: Callable[..., Any]) -> str:
    """One function, with its docstring's first sentence."""
    (node,) = ast.parse(inspect.getsource(each)).body
    assert isinstance(node, ast.FunctionDef)
    arguments = ", ".join(f"int64_t {named(argument.arg)}" for argument in node.args.args)
    lines = [statement(part) for part in node.body[1:]]
    told = " ".join(re.split(r"\.\s|\n\n", ast.get_docstring(node) or "")[0].split())
    return (
        f"/* {told.rstrip('.')}. */\nstatic inline int64_t {PREFIX}{node.name}({arguments}) {{\n"
        + "".join(f"  {line}\n" for line in lines)
        + "}\n"
    )


def statement(node: ast.stmt) -> str:
    """A return, a new name, or a return under a condition."""
    match node:
        case ast.Return(value=ast.expr() as value):
            return f"return {bare(value)};"
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return f"const int64_t {named(name)} = {bare(value)};"
        case ast.If(test=test, body=[one], orelse=[]):
            return f"if ({bare(test)}) {statement(one)}"
    raise TypeError(f"fixed.py must have statements that C has too, not {ast.unparse(node)}.")


def named(name: str) -> str:
    """A name that C has no other meaning for."""
    return f"{name}_" if name in RESERVED else name


def bare(node: ast.expr) -> str:
    """An expression without brackets around the whole of it."""
    text = expression(node)
    return text[1:-1] if isinstance(node, (ast.BinOp, ast.Compare, ast.IfExp)) else text


def expression(node: ast.expr) -> str:
    """The same operators in C, every operation in brackets."""
    match node:
        case ast.Name(id=name):
            return named(name)
        case ast.Constant(value=int() as value):
            return f"INT64_C({value})"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"(-{expression(operand)})"
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATORS:
            return f"({expression(left)} {OPERATORS[type(operator)]} {expression(right)})"
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if (
            type(operator) in OPERATORS
        ):
            return f"({expression(left)} {OPERATORS[type(operator)]} {expression(right)})"
        case ast.IfExp(test=test, body=yes, orelse=no):
            return f"({expression(test)} ? {expression(yes)} : {expression(no)})"
        case ast.Call(func=ast.Attribute(attr=kind), args=[value]) if kind in CASTS:
            return f"({CASTS[kind]}){expression(value)}"
        case ast.Call(func=ast.Name(id=name), args=values) if name in {s.__name__ for s in SHARED}:
            return f"{PREFIX}{name}({', '.join(map(bare, values))})"
    raise TypeError(f"fixed.py must have expressions that C has too, not {ast.unparse(node)}.")
