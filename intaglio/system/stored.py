"""JSON read strictly: one value for a name, and fields of the types that a dataclass declares."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WIDEST = 1 << 63  # no whole number of a file reaches it: everything is computed in 64 bits


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text in UTF-8, or in UTF-16 or -32 with its mark.

    Raises ValueError where it is none, or has a name twice in one object: readers differ about
    which of the two counts.
    """
    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("it must not be so many lists in lists") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no name comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice!r} twice; remove one")
    return found


def fields_of(kind: type, stored: Any) -> dict[str, Any]:
    """The fields of the dataclass `kind` from an object of JSON; lists become tuples.

    Raises TypeError for a name that is no field and for a value of another type.
    """
    hints = hints_of(kind)
    if not isinstance(stored, dict) or not stored.keys() <= hints.keys():
        raise TypeError(f"{kind.__name__} must have the fields {', '.join(hints)}")
    return {name: typed(hints[name], value) for name, value in stored.items()}


@lru_cache
def hints_of(kind: type) -> Mapping[str, Any]:
    """The annotations of a dataclass, as types."""
    return get_type_hints(kind)


def typed(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`, which may be bool, int, float, str, None, a tuple, a choice of
    values or of types, or a class with a static method `parse` of text.

    Numbers must be finite and, where they are whole, of 64 bits; text must be Unicode. Raises
    TypeError.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return typed(NoneType if value is None else parts[0], value)
    if kind is Literal:
        if type(value) is str and value in parts:
            return value
    elif kind is tuple:
        if isinstance(value, list):
            kinds = parts[:1] * len(value) if parts[-1] is ... else parts
            if len(kinds) == len(value):
                return tuple(typed(k, v) for k, v in zip(kinds, value, strict=True))
    elif hint is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif hint in (bool, int, str, NoneType):
        if type(value) is hint and not (hint is int and abs(value) >= WIDEST):
            if hint is str:
                value.encode()  # half of a pair of UTF-16 raises UnicodeEncodeError
            return value
    elif isinstance(value, str):
        return hint.parse(value)
    raise TypeError(f"{value!r:.40} must be {hint}")
