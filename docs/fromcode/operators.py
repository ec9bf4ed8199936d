"""What is taken from torch, TFLite and ONNX, what a Program's operations become, what each preset
can do: from the tables and functions that decide it."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from fromcode import refusals
from fromcode.markdown import code, escaped, prose, table
from fromcode.samples import EXPORTS, Export, names, quantised, sample
from intaglio import ops
from intaglio.cmodel import source
from intaglio.codegen.area.boards import BOARDS
from intaglio.codegen.area.devices import DEVICES
from intaglio.codegen.structure.graph import KINDS, hardware_graph
from intaglio.errors import IntaglioError
from intaglio.exchange.from_onnx.door import INSTEAD
from intaglio.exchange.from_onnx.folding import BROADCAST, OTHERS
from intaglio.exchange.from_onnx.operators import (
    MICROSOFT,
    NEWEST,
    OLDEST,
    QONNX,
    TABLE,
    Attribute,
    Operator,
)
from intaglio.exchange.from_tflite import importer, tables
from intaglio.exchange.from_tflite.choosing import Choosing
from intaglio.exchange.from_tflite.constants import FOLDED
from intaglio.fixed import PRESETS, Arithmetic
from intaglio.program import Program
from intaglio.quant.capture.aten import REMEDIES, TRANSLATIONS
from intaglio.sim import reference, workspace

YES, NO = "yes", "no"


# --- from torch ---------------------------------------------------------------------------------


def of_torch() -> str:
    """`TRANSLATIONS` by translation, and what each of these refuses."""
    groups: dict[Callable[..., Any], list[str]] = {}
    for name, function in TRANSLATIONS.items():
        groups.setdefault(function, []).append(name)
    rows = []
    for function, operations in groups.items():
        refused = "<br>".join(escaped(sentence) for sentence in refusals.of(function))
        rows.append((code(operations), prose(inspect.getdoc(function) or ""), refused))
    return table(("torch operation (aten)", "taken as", "refused"), rows)


def of_torch_refused() -> str:
    """`REMEDIES`: operations that are refused with advice of their own."""
    return table(("torch operation (aten)", "refused"),
                 ((f"`{name}`", escaped(said)) for name, said in REMEDIES.items()))  # fmt: skip


# --- from TFLite --------------------------------------------------------------------------------


def of_tflite() -> dict[str, str]:
    """What the importer makes of each operator."""
    made = {kind: inspect.getdoc(f) or "" for kind, f in importer.TRANSLATIONS.items()}
    one = "a table of every code, made by LiteRT's own kernel"
    made |= dict.fromkeys(tables.UNARY, one)
    two = "of a map and a function of it, or one value: a table, made by LiteRT's own kernel"
    for kind in tables.BINARY:
        made[kind] = f"{made[kind]} Or, {two}" if kind in made else two
    made |= dict.fromkeys(importer.PARTS, inspect.getdoc(Choosing.parts) or "")
    made["TRANSPOSE"] = inspect.getdoc(Choosing.transposed) or ""
    made |= dict.fromkeys(sorted(set(FOLDED) - made.keys()), "of constants, computed once")
    return made | dict.fromkeys(importer.VIEWS, "another view of the same values")


def tflite() -> str:
    """Operators of .tflite files."""
    rows = ((f"`{kind}`", prose(said)) for kind, said in of_tflite().items())
    return table(("operator", "as"), rows)


# --- from ONNX ----------------------------------------------------------------------------------


def since(rows: list[Operator], holds: Callable[[Operator], bool]) -> str:
    """ " (from 13)", " (to 9)" for what holds in some of an operator's rows, nothing for all."""
    found = [row for row in rows if holds(row)]
    if found == rows:
        return ""
    if found[-1] is rows[-1] and found == rows[-len(found) :]:
        return f" (from {found[0].versions[0]})"
    return " (" + ", ".join(str(v) for row in found for v in row.versions) + ")"


def attribute(name: str, found: Attribute) -> tuple[int, str]:
    """Which column an attribute stands in, and how."""
    if found.why_unused:
        return 2, f"`{name}`: {escaped(found.why_unused)}"
    if found.remedy:
        allowed = " or ".join(f"`{value}`" for value in found.values) or "left out"
        return 1, f"`{name}`: {allowed}"
    return 0, f"`{name}`"


def of_onnx(domain: str) -> Iterator[tuple[str, ...]]:
    """The rows of one domain: operator, versions, inputs, attributes read, restricted, unused."""
    kinds = dict.fromkeys(row.kind for row in TABLE if row.domain == domain)
    for kind in kinds:
        rows = [row for row in TABLE if (row.domain, row.kind) == (domain, kind)]
        read = [row for row in rows if not row.refused]
        versions = ", ".join(str(v) for row in read for v in row.versions)
        inputs = dict.fromkeys(given.name for row in read for given in row.inputs)
        last = {given.name: given for row in read for given in row.inputs}
        shown = [
            f"{name}{'?' * last[name].optional}{'*' * last[name].many}"
            + since(read, lambda row, name=name: name in {given.name for given in row.inputs})
            for name in inputs
        ]
        columns: tuple[list[str], ...] = ([], [], [])
        for name in dict.fromkeys(name for row in read for name in row.attributes):
            newest = next(row.attributes[name] for row in reversed(read) if name in row.attributes)
            place, text = attribute(name, newest)
            columns[place].append(text + since(read, lambda row, name=name: name in row.attributes))
        yield (f"`{kind}`", versions, ", ".join(shown), ", ".join(columns[0]),
               "<br>".join(columns[1]), "<br>".join(columns[2]))  # fmt: skip


def onnx() -> str:
    """The importer's table, a section for each domain."""
    head = ("operator", "versions", "inputs", "attributes", "must be", "without effect")
    parts = [f"Operator sets {OLDEST} to {NEWEST} of the standard.\n"]
    for domain, title in (("", "The standard"), (MICROSOFT, MICROSOFT), (QONNX, "QONNX")):
        parts += [f"### {title}\n", table(head, of_onnx(domain))]
    parts += ["### Refused with advice of their own\n",
              table(("operator", "refused"), ((f"`{k}`", escaped(v)) for k, v in INSTEAD.items())),
              "### On constants\n",
              "What reads constants alone is computed when the file is read: "
              f"{code(sorted((*BROADCAST, *OTHERS)))}.\n"]  # fmt: skip
    return "\n".join(parts)


# --- a Program's operations ---------------------------------------------------------------------


def cases(function: Callable[..., Any]) -> set[str]:
    """The classes that a function tells apart, by `match` or isinstance."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = {node.cls.id for node in ast.walk(tree)
             if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            found |= {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
    return found


def executions() -> dict[str, set[str]]:
    """The operations that each execution has a rule for."""
    return {
        "reference": cases(reference.run) | cases(reference.execute),
        "simulator": cases(workspace.Binder.bind),
        "C library": {kind.__name__ for kind in source.KINDS},
        "hardware block": {kind.__name__ for kind in KINDS},
    }


def exported(kind: type[ops.Op], form: Export) -> str:
    """The operators that one operation becomes, or NO where the export refuses it."""
    program = sample(kind, form.preset)
    try:
        found = names(form.write(program))
    except IntaglioError:
        return NO
    if kind not in (ops.Input, ops.Output):
        found -= names(form.write(sample(ops.Output, form.preset)))
    return code(found)


def targets() -> str:
    """Each operation, in each execution and each format."""
    rules = executions()
    rows = []
    for kind in ops.OPS:
        ran = [YES if kind.__name__ in rules[name] else NO for name in rules]
        if kind in KINDS and KINDS[kind] not in ("source", "sink"):
            ran[-1] = f"`{KINDS[kind]}`"
        written = [exported(kind, form) for form in EXPORTS]
        rows.append((f"`{kind.__name__}`", *ran, *written))
    return table(("operation", *rules, *(form.title for form in EXPORTS)), rows)


# --- presets ------------------------------------------------------------------------------------


def works(arithmetic: str, target: Callable[[Program], Any]) -> bool:
    """Whether a target takes a small network in this arithmetic."""
    program = quantised(arithmetic)
    try:
        target(program)
    except IntaglioError:
        return False
    return True


def presets() -> str:
    """Every arithmetic: what it is, and where a Program in it can go."""
    rows = []
    for name, a in PRESETS.items():
        can = [
            YES if works(name, to) else NO
            for to in (hardware_graph, *(form.write for form in EXPORTS))
        ]
        rows.append((f"`{name}`", *described(a), *can))
    return table(
        (
            "preset",
            "rounding",
            "M",
            "S",
            "S of a layer",
            "hardware",
            *(form.title for form in EXPORTS),
        ),
        rows,
    )


def described(a: Arithmetic) -> tuple[str, ...]:
    """Rounding, and what M and S may be."""
    factor = f"{a.multiplier_bits} bits"
    if a.power_of_two:
        factor = "a power of two" + (", one a layer" if a.per_layer else "")
    if a.product == "single":
        factor = "float32"
    shifts = "by channel" if a.per_channel_shift else "one, more where needed"
    if not (a.per_channel_shift or a.split_shift):
        shifts = "one"
    return a.rounding, factor, f"{a.shift_range[0]} to {a.shift_range[1]}", shifts


# --- devices ------------------------------------------------------------------------------------


def devices() -> str:
    """Every target, and the boards that hold it."""
    rows = []
    for name, d in DEVICES.items():
        boards = [board for board, found in BOARDS.items() if name in found.platforms]
        held = d.part != "any"
        counts = (f"{n:,}" if held else "any" for n in (d.luts, d.ffs, d.rams, d.multipliers))
        rows.append((f"`{name}`", d.family, *counts, f"{d.dsp[0]} x {d.dsp[1]}",
                     f"{d.ram_bits // 1024} Kbit", code(boards)))  # fmt: skip
    return table(("target", "family", "LUTs", "flip-flops", "block RAMs", "multipliers", "of bits",
                  "of a block RAM", "boards"), rows)  # fmt: skip
