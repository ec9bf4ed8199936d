"""The one door of the importer: a node is compared with `operators.TABLE` before it is translated.

What passes has inputs and attributes that the table names, of their types and within their bounds,
each either read by the translation or with a value that changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import onnx

from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.operators import (
    LARGEST,
    NEWEST,
    OLDEST,
    QONNX,
    QONNX_NAMES,
    STANDARD,
    TABLE,
    Attribute,
    Operator,
)

ROWS: dict[tuple[str, str], dict[int, Operator]] = {}
for _row in TABLE:
    for _version in _row.versions:
        ROWS.setdefault((_row.domain, _row.kind), {})[_version] = _row

UNKNOWN = (
    "a quantised network must not contain this operator; cut the model before it (decode boxes"
    " outside), or quantise the float part around it."
)
INSTEAD = {
    "DynamicQuantizeLinear": "scales must be constants, not made anew in every run; give the file"
    " to `intaglio quantize`, which takes its weights as floats, or quantise it statically"
    " (quantize_static).",
}


def admit(node: Node, opsets: Mapping[str, int]) -> Operator:
    """The table's row for a node. Raises ModelError, with the node's name and the remedy, for an
    operator, version, input, attribute or value that is not in the table."""
    row = find(node, opsets)
    if row.refused:
        raise node.refuse(row.refused)
    for name, value in node.attributes.items():
        if name not in row.attributes:
            raise node.refuse(
                f"its attribute {name!r} must be one of operator set {opsets.get(row.domain, 1)}"
                f" ({', '.join(row.attributes) or 'none'}); leave it out."
            )
        check(node, name, row.attributes[name], value)
    for name, attribute in row.attributes.items():
        if attribute.required and name not in node.attributes:
            raise node.refuse(f"it must have the attribute {name!r}; export the model anew.")
    check_inputs(node, row)
    return row


def find(node: Node, opsets: Mapping[str, int]) -> Operator:
    """The row of the version that the file's operator set means."""
    domain = QONNX if node.domain in QONNX_NAMES else node.domain
    if domain == STANDARD and (STANDARD, node.kind) not in ROWS:
        domain = QONNX if (QONNX, node.kind) in ROWS else domain
    versions = ROWS.get((domain, node.kind))
    if versions is None:
        raise node.refuse(INSTEAD.get(node.kind, UNKNOWN))
    given = opsets.get(node.domain, 1)
    if domain != node.domain == STANDARD:  # QONNX's without their domain
        given = 2 if len(node.inputs) > 5 else 1
    if domain == STANDARD and not OLDEST <= given <= NEWEST:
        raise node.refuse(
            f"its operator set must be {OLDEST} to {NEWEST}, not {given}; convert the model with"
            " onnx.version_converter."
        )
    known = [v for v in versions if v <= given]
    if not known:
        raise node.refuse(
            f"it must be of operator set {min(versions)} or later, not {given}; export the model"
            " anew."
        )
    return versions[max(known)]


def check(node: Node, name: str, attribute: Attribute, value: Any) -> None:
    """One attribute's type, bounds and value."""
    many = attribute.kind in ("ints", "floats")
    kinds: dict[str, type] = {"int": int, "ints": int, "float": float, "floats": float}
    kinds |= {"string": bytes, "tensor": onnx.TensorProto}
    kind = kinds.get(attribute.kind)
    values = list(value) if many and isinstance(value, Sequence) else [value]
    single = many and not isinstance(value, Sequence)
    if single or (kind is not None and not all(isinstance(v, kind) for v in values)):
        raise node.refuse(f"its attribute {name!r} must be {attribute.kind}, not {short(value)}.")
    if attribute.why_unused:
        return
    if attribute.kind == "string":
        values = [v.decode(errors="replace") for v in values]
        if not all(v.isascii() for v in values):
            raise node.refuse(f"its attribute {name!r} must be a word, not {short(value)!r}.")
    remedy = f"; {attribute.remedy}." if attribute.remedy else "."
    if attribute.remedy and not all(v in attribute.values for v in values):
        allowed = " or ".join(map(str, attribute.values)) or "absent"
        raise node.refuse(f"its attribute {name!r} must be {allowed}, not {short(values)}{remedy}")
    for v in values:
        if isinstance(v, float) and not (attribute.unbounded or isfinite(v)):
            raise node.refuse(f"its attribute {name!r} must be finite, not {v}.")
        low = attribute.low
        if isinstance(v, int) and low is not None and not low <= v <= LARGEST:
            raise node.refuse(
                f"its attribute {name!r} must be {low} to {LARGEST}, not {short(value)}."
            )


def check_inputs(node: Node, row: Operator) -> None:
    """As many inputs as the row names, none of the required ones left out; one output."""
    names = [i.name for i in row.inputs]
    many = bool(row.inputs) and row.inputs[-1].many
    if len(node.inputs) > len(names) and not many:
        raise node.refuse(
            f"it must have at most {len(names)} inputs ({', '.join(names)}), not"
            f" {len(node.inputs)}; export the model anew."
        )
    for n, known in enumerate(row.inputs):
        if not known.optional and (n >= len(node.inputs) or not node.inputs[n]):
            raise node.refuse(f"it must have its input {known.name!r}; export the model anew.")
    if many and not all(node.inputs):
        raise node.refuse("none of its inputs must be left out; export the model anew.")


def short(value: Any) -> str:
    """A value in at most 60 letters."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
