"""The importer reads everything of an ONNX file or refuses it: its table against the schemas of the
packages, every attribute and input with other values, and random files beside onnxruntime."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_cases import DRAWN, ROWS, behind, draw
from onnx_judge import Verdict, judge
from onnx_runtime import Runtime
from onnx_walk import Schema, bases, changes, current, schemas, tabled
from tools import qonnx_operators

from intaglio.errors import ModelError
from intaglio.exchange.from_onnx.door import admit
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.operators import NEWEST, OLDEST, QONNX, STANDARD, TABLE

EVERY = schemas()
KNOWN = {(r.domain, r.kind) for r in TABLE}


def test_the_table_is_what_the_schemas_say() -> None:
    """A new version, attribute or input in onnx or onnxruntime fails here, not in a user's file."""
    rows = {(r.domain, r.kind, v): r for r in TABLE for v in r.versions if r.domain != QONNX}
    there = {
        (s.domain, s.kind, s.version): s
        for s in EVERY
        if (s.domain, s.kind) in KNOWN and current(s, EVERY)
    }
    assert set(rows) == set(there)
    for key, row in rows.items():
        schema = there[key]
        assert {n: a.kind for n, a in row.attributes.items() if "sparse" not in n} == {
            n: word.lower() if word != "STRINGS" else "string"
            for n, word in schema.attributes.items()
            if "sparse" not in n
        }, key
        assert tuple(i.name for i in row.inputs) == schema.inputs, key
        assert schema.deprecated == bool(row.refused), key


def test_the_table_is_what_qonnx_says() -> None:
    """Attributes of its operators, in each version; there are no schemas of inputs."""
    qonnx_operators()
    from qonnx.custom_op import general

    node = helper.make_node("Quant", ["x", "s", "z", "b"], ["y"], domain=QONNX)
    for row in (r for r in TABLE if r.domain == QONNX):
        for version in row.versions:
            name = row.kind if hasattr(general, row.kind) else f"{row.kind}_v{version}"
            known = getattr(general, name)(node).get_nodeattr_types()
            assert set(row.attributes) == set(known), name


# --- one attribute or input at a time -----------------------------------------------------------


def walk(
    found: Iterable[Schema], runtime: Runtime, path: Path, step: int = 1
) -> tuple[Counter[str], list[str]]:
    """Verdicts of every `step`-th change, and those that are wrong, in words.

    Counted too: "triples" of operator, version, attribute or input; "ran", those that onnxruntime
    takes with another value than the base; "changed", other values that change its result.
    """
    words: Counter[str] = Counter()
    wrong: list[str] = []
    triples: set[tuple[str, ...]] = set()
    ran: set[tuple[str, ...]] = set()
    number, started = 0, time.monotonic()
    for schema in found:
        for base in bases(schema, 1):
            first: Verdict | None = None
            for name, case in changes(schema, base):
                number += 1
                if number % step:
                    continue
                first = first or judge(base, runtime, path)
                seen = judge(case, runtime, path)
                words[seen.word] += 1
                where = (schema.domain, schema.kind, str(schema.version), name)
                triples.add(where)
                if not isinstance(seen.theirs, str) and seen.theirs is not None:
                    ran.add(where)
                    words["changed"] += not np.array_equal(seen.theirs, first.theirs)
                if seen.word in ("wrong", "traceback"):
                    wrong.append(f"{where} {case}: {seen.word}, {seen.detail}")
        if step == 1:
            spent = time.monotonic() - started
            sys.stderr.write(f"\r{number:6,} changes, {spent:4.0f} s, at {schema.kind:24s}")
    words["triples"], words["ran"] = len(triples), len(ran)
    return words, wrong


def in_table() -> list[Schema]:
    return [s for s in EVERY if (s.domain, s.kind, s.version) in tabled() and not s.deprecated]


def test_no_change_of_an_attribute_or_input_goes_unread(tmp_path: Path) -> None:
    """A sample of the walk that the slow test makes whole."""
    with Runtime() as runtime:
        words, wrong = walk(in_table(), runtime, tmp_path / "m.onnx", step=17)
    assert not wrong, "\n".join(wrong)
    assert words["changed"] > 40
    assert words["equal"] > 80


@pytest.mark.slow
def test_no_change_of_any_attribute_or_input_goes_unread(tmp_path: Path) -> None:
    """Every other value of every attribute and input of every version (`-s` shows the figures)."""
    with Runtime() as runtime:
        words, wrong = walk(in_table(), runtime, tmp_path / "m.onnx")
    print(f"\n{dict(words)}")
    assert not wrong, "\n".join(wrong)
    assert words["triples"] > 600
    assert words["ran"] > 0.95 * words["triples"]
    assert words["changed"] > 1000


def test_operators_that_are_not_in_the_table_are_refused() -> None:
    """Every other operator of the standard and of the runtime's own domain, in every version, with
    each of its attributes."""
    tried = 0
    for schema in EVERY:
        if (schema.domain, schema.kind) in KNOWN:
            continue
        for name in (None, *schema.attributes):
            given = {} if name is None else {name: 1}
            node = Node(schema.kind, schema.domain, "it", ("x",), ("y",), given)
            with pytest.raises(ModelError, match=f"^{schema.kind} 'it': "):
                admit(node, {STANDARD: NEWEST, schema.domain: max(schema.version, OLDEST)})
            tried += 1
    assert tried > 900, tried


# --- random files -------------------------------------------------------------------------------


def random_files(count: int, path: Path, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Verdicts of files of one operator, and of one with one or two others behind it."""
    cells = [(r.kind, v) for r, v in ROWS if r.kind in DRAWN]
    words: Counter[str] = Counter()
    wrong, started = [], time.monotonic()
    with Runtime() as runtime:
        for n in range(first, first + count):
            r = np.random.default_rng(n)
            case = draw(*cells[n % len(cells)], r)
            if n // len(cells) % 3 == 2 and case.made == "float":
                case = behind(case, r)
            seen = judge(case, runtime, path)
            words[seen.word] += 1
            if seen.word in ("wrong", "traceback"):
                wrong.append(f"{n} {case}: {seen.word}, {seen.detail}")
            if count > 1000 and n % 100 == 0:
                sys.stderr.write(
                    f"\r{n:6,} files, {time.monotonic() - started:4.0f} s {dict(words)}"
                )
    return words, wrong


def test_random_files_are_right_or_refused(tmp_path: Path) -> None:
    first = int(np.random.default_rng().integers(1 << 30)) if not os.environ.get("CI") else 0
    words, wrong = random_files(400, tmp_path / "m.onnx", first)
    assert not wrong, "\n".join(wrong)
    assert words["equal"] > 200


@pytest.mark.slow
def test_many_random_files_are_right_or_refused(tmp_path: Path) -> None:
    """`-s` shows the figures."""
    words, wrong = random_files(6000, tmp_path / "m.onnx")
    print(f"\n{dict(words)}")
    assert not wrong, "\n".join(wrong)
    assert words["equal"] > 3000
