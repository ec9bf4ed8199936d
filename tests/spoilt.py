"""Files spoilt at random, from a seed: JSON whose values change, and bytes."""

import copy
import time
from typing import Any

import numpy as np
import pytest

WILD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 0.5, -0.0, 3.0, 1e5, 1e308, float("nan"), float("inf"),
    -float("inf"), 2**31, 2**63, -(2**70), 10**30, "", "0", "1", "7", "1.0", "-1", "a", "null",
    "\x00", "\ud800", "é" * 40, [], {}, [1], [[]], [1, 2, 3, 4], ["1"], {"a": 1}, [[[[1]]]],
]  # fmt: skip


def slots(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                todo.append(node[key])
    return found


def change(rng: np.random.Generator, tree: Any) -> None:
    """One value somewhere set, removed, repeated, exchanged, nudged or written as text."""
    places = slots(tree)
    if not places:
        return
    node, key = places[int(rng.integers(len(places)))]
    value = node[key]
    kind = int(rng.integers(6))
    if kind == 0:
        node[key] = copy.deepcopy(WILD[int(rng.integers(len(WILD)))])
    elif kind == 1:
        del node[key]
    elif kind == 2 and isinstance(node, list):
        node.insert(int(rng.integers(len(node) + 1)), copy.deepcopy(value))
    elif kind == 3:
        other, there = places[int(rng.integers(len(places)))]
        node[key] = copy.deepcopy(other[there])
    elif kind == 4 and isinstance(value, int | float) and not isinstance(value, bool):
        node[key] = [value + 1, value - 1, -value, value * 1000, value + 0.5][int(rng.integers(5))]
    elif kind == 5 and not isinstance(value, dict | list):
        node[key] = str(value)


def spoil(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes changed, cut, removed or put in, at one to four places."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(found) + 1))
        kind = int(rng.integers(8))
        if kind < 4 and at < len(found):
            found[at] = int(rng.integers(256)) if kind < 2 else found[at] ^ 1 << rng.integers(8)
        elif kind == 4:
            del found[at:]
        elif kind == 5:
            del found[at : at + int(rng.integers(1, 40))]
        elif kind == 6:
            found[at:at] = rng.bytes(int(rng.integers(1, 40)))
        elif kind == 7:
            found[at:at] = found[at : at + int(rng.integers(1, 40))]
    return bytes(found)


class Count:
    """How many of `total` files did what; says so every few seconds, past pytest's capture."""

    def __init__(self, total: int, config: pytest.Config) -> None:
        self.total = total
        self.capture: Any = config.pluginmanager.getplugin("capturemanager")
        self.seen: dict[str, int] = {}
        self.told = time.monotonic()

    def __call__(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1
        done = sum(self.seen.values())
        if time.monotonic() - self.told > 5 or done == self.total > 1000:
            self.told = time.monotonic()
            with self.capture.global_and_fixture_disabled():
                print(f"{done:,} of {self.total:,}: {self.seen}", flush=True)
