"""What a C program can ask of the model, what it is refused, and the folder that it compiles."""

from __future__ import annotations

import ast
import ctypes
import json
import re
import shutil
from collections.abc import Iterator
from inspect import getsource
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from c_programs import STRICT, called, compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import pyramid, skip
from strategies import programs, random_images
from tools import Cli, refused

from intaglio import fixed
from intaglio.cmodel import arithmetic
from intaglio.cmodel.compiled import CModel, Comparison, compare, compile_library
from intaglio.cmodel.folder import c_name, write_c_model
from intaglio.cmodel.source import string
from intaglio.errors import DataError, ToolError
from intaglio.file import save
from intaglio.fixed import EXACT_LIMIT
from intaglio.ops import Input
from intaglio.sim import reference

I64 = ctypes.c_int64
TRAPPED = ("-std=c99", "-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CModel]:
    compiler("cc")
    work = tmp_path_factory.mktemp("model")
    written = write_c_model(skip(), work / "c", "net")
    made = CModel(compile_library(written, work, flags=TRAPPED), skip(), "net")
    yield made
    made.close()


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """fixed.h, every function of it as one of a library."""
    work = tmp_path_factory.mktemp("fixed")
    text = arithmetic.header()
    calls = re.findall(r"inline int64_t fixed_(\w+)\(([^)]*)\)", text)
    for name, arguments in calls:
        names = ", ".join(part.split()[1] for part in arguments.split(", "))
        text += f"int64_t c_{name}({arguments}) {{ return fixed_{name}({names}); }}\n"
    (work / "fixed.c").write_text(text)
    called(compiler(), *STRICT, *TRAPPED, "-shared", "-fPIC", "fixed.c", "-o", "fixed.so", cwd=work)
    return ctypes.CDLL(str(work / "fixed.so"))


def sums() -> st.SearchStrategy[int]:
    """Anything that a verified Program rounds, ties and ends often."""
    ties = st.builds(
        lambda q, s, d: (q << s) + ((1 << s) >> 1) + d,
        st.integers(-9, 9), st.integers(0, 57), st.integers(-1, 1),
    )  # fmt: skip
    ends = st.sampled_from((0, 1, -1, EXACT_LIMIT - 1, -EXACT_LIMIT))
    return st.one_of(ties, ends, st.integers(-(1 << 60), 1 << 60), st.integers(-200, 200))


@settings(max_examples=400)
@given(st.sampled_from(sorted(fixed.ROUNDINGS)), sums(), st.integers(0, 62))
def test_roundings_are_those_of_fixed(functions: ctypes.CDLL, name: str, t: int, s: int) -> None:
    half = (1 << s) >> 1
    t = max(-EXACT_LIMIT + half, min(EXACT_LIMIT - 1 - half, t))
    functions.c_round_shift.restype = I64
    got = functions.c_round_shift(arithmetic.rounding(name), I64(t), I64(s))
    assert got == fixed.round_shift(t, s, name)  # type: ignore[arg-type]  # one of them


@settings(max_examples=300)
@given(sums(), st.integers(1, 48), st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, 1))
def test_other_functions_are_those_of_fixed(
    functions: ctypes.CDLL, t: int, bits: int, code: int, signed: int
) -> None:
    small, m = code >> 12, code >> 8
    for name, arguments in (
        ("wrap", (t, bits, signed)),
        ("clamp", (t, -(1 << bits), (1 << bits) - 1)),
        ("single", (t,)),
        ("scaled_single", (code >> 1, m, code >> 2)),
        ("summed_single", (small, -small, m, small, code)),
    ):
        call = getattr(functions, f"c_{name}")
        call.restype = I64
        assert call(*map(I64, arguments)) == getattr(fixed, name)(*arguments)


def test_what_python_alone_can_say_is_refused_in_arithmetic() -> None:
    def loop(t: int) -> int:
        """A loop."""
        while t > 9:
            t = t - 1
        return t

    def power(t: int) -> int:
        """Another operator."""
        return t**2

    for each, words in ((loop, "statements"), (power, "expressions")):
        text = f"fixed.py must have {words} that C has too"
        with pytest.raises(TypeError, match=re.escape(text)):
            arithmetic.statement(ast.parse(dedent(getsource(each))).body[0].body[1])


@settings(max_examples=4)
@given(programs(max_size=5, max_channels=4, max_blocks=3), st.integers(0, 999))
def test_a_layer_by_itself(tmp_path_factory: pytest.TempPathFactory, program, seed: int) -> None:
    """Tensors from any frame, written in any order: each layer is computed from what stands."""
    work = tmp_path_factory.mktemp("one")
    one = CModel(compile_library(write_c_model(program, work / "c"), work, flags=TRAPPED),
                 program, "model")  # fmt: skip
    expected = reference.run(program, random_images(program, 1, seed)).tensors
    for name, codes in expected.items():
        one.write(name, codes[0])
    for op in reversed(program.ops):
        if not isinstance(op, Input):
            one.write(
                op.output, np.full(program.tensors[op.output].shape, expected[op.output].min())
            )
            one.compute(op.output)
            np.testing.assert_array_equal(one.read(op.output), expected[op.output][0])
    one.close()


def test_places_codes_and_what_differs(model: CModel) -> None:
    program = skip()
    image = random_images(program, 1, seed=3)[0].astype(np.uint8)
    expected = reference.run(program, image[None]).tensors["branch"][0]
    model.run(image)
    c, handle, number = model._c, model._model, model.number("branch")
    get = [c.intaglio_get(handle, number, 4, y, x) for y in range(5) for x in range(6)]
    assert get == expected[4].ravel().tolist()
    right = int(expected[4, 3, 2])
    assert c.intaglio_check(handle, number, 4, 3, 2, I64(right)) == 0
    assert c.intaglio_error(handle) == b""
    assert c.intaglio_check(handle, number, 4, 3, 2, I64(right + 1)) == 1
    at = "branch (from branch): frame 0, channel 4, y 3, x 2"
    assert c.intaglio_error(handle).decode() == f"{at}: got {right + 1}, expected {right}"
    assert c.intaglio_check(handle, number, 4, 3, 2, I64(-(1 << 63))) == 1
    assert c.intaglio_error(handle).decode() == f"{at}: got undefined bits, expected {right}"
    assert c.intaglio_put(handle, number, 4, 3, 2, I64(right ^ 1)) == 0
    assert c.intaglio_get(handle, number, 4, 3, 2) == right ^ 1


def test_what_the_model_refuses(model: CModel) -> None:
    c, handle, number = model._c, model._model, model.number("branch")

    def said() -> str:
        return c.intaglio_error(handle).decode()

    with pytest.raises(DataError, match=r"^The tensor must be one of .*, as out0, not absent\.$"):
        model.number("absent")
    for call in (c.intaglio_compute, c.intaglio_overflows):
        for wrong in (-1, 99):
            assert call(handle, wrong) == -1
            assert said() == f"The tensor must be one of 0 to 6, not {wrong}."
    with pytest.raises(DataError, match=r"^image must be written, not computed: it is the input"):
        model.compute("image")
    with pytest.raises(DataError, match=r"^Codes of branch must lie in \[0, 15\], not be 16\.$"):
        model.write("branch", np.full((5, 5, 6), 16))
    for place in ((5, 0, 0), (-1, 0, 0), (0, 5, 0), (0, 0, 6), (0, -1, 0)):
        assert c.intaglio_get(handle, number, *place) == -(1 << 63)
        assert c.intaglio_put(handle, number, *place, I64(0)) == -1
        assert c.intaglio_check(handle, number, *place, I64(0)) == 1
        assert said() == (
            "The place in branch must be below channel 5, y 5, x 6, not channel"
            f" {place[0]}, y {place[1]}, x {place[2]}."
        )
    assert c.intaglio_error(None).decode() == "The model must be open, but memory did not suffice."


@pytest.mark.parametrize("language", ["c99", "c++", "clang"])
def test_strict_compilers_have_nothing_to_say(tmp_path: Path, language: str) -> None:
    tool = {"c99": "gcc", "c++": "g++"}.get(language) or language
    if language == "clang" and shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    found = compiler(tool)
    folder = write_c_model(pyramid(), tmp_path / "c", "net").folder
    kind = ("-x", "c++", "-std=c++11") if language == "c++" else ("-std=c99",)
    for source in ("intaglio.c", "net.c"):
        called(found, *kind, *STRICT, "-O2", "-c", source, cwd=folder)


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    gcc, text = compiler(), ""
    for name, program in (("one", skip()), ("two", pyramid())):
        folder = write_c_model(program, tmp_path / name, name).folder
        for path in folder.iterdir():
            shutil.copy(path, tmp_path / path.name)
        text += f'#include "{name}.h"\n'
    (tmp_path / "main.c").write_text(
        f"{text}#include <stdio.h>\nint main(void) {{ intaglio *a = one_open(), *b = two_open();"
        ' printf("%d %d", intaglio_count(a), intaglio_count(b)); intaglio_close(a);'
        " intaglio_close(b); intaglio_close(0); return 0; }\n"
    )
    files = ("main.c", "intaglio.c", "one.c", "two.c")
    called(gcc, *STRICT, "-std=c99", "-fsanitize=address", *files, "-o", "both", cwd=tmp_path)
    counts = [len(skip().tensors), len(pyramid().tensors)]
    assert called("./both", cwd=tmp_path).split() == [b"%d" % n for n in counts]


def test_make_in_a_folder_with_a_space(tmp_path: Path) -> None:
    make = compiler("make")
    folder = write_c_model(skip(), tmp_path / "a folder", "net").folder
    called(make, cwd=folder)
    made = CModel(folder / "libnet.so", skip(), "net")
    assert made.number("out0") == 6
    assert (folder / "libnet.a").exists()
    called(make, "clean", cwd=folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {path.name for path in folder.iterdir()} == set(manifest["files"])
    assert manifest["program"] == skip().digest()


def test_names_are_names_in_c(tmp_path: Path) -> None:
    near = {"nano": "nano", "my-net.v2": "my_net_v2", "8bit": "m_8bit", "": "m_",
            "intaglio_vpi": "m_intaglio_vpi", "réseau": "r_seau"}  # fmt: skip
    for text, name in near.items():
        assert c_name(text) == name
        write_c_model(skip(), tmp_path / "c", name)
    for name in ("", "8", "a-b", "intaglio_program", "fixed", "é"):
        with pytest.raises(DataError, match=r"^The network's name must be letters, digits"):
            write_c_model(skip(), tmp_path / "c", name)
    assert string('a"\\?é\n') == r'"a\042\134\077\303\251\012"'
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note").touch()
    with pytest.raises(DataError, match="must be a new folder or an earlier golden model"):
        write_c_model(skip(), tmp_path / "other", "net")


def test_a_bench_beside_the_model_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    write_c_model(skip(), folder, "net")
    for name in ("libnet.so", "net.o", "net.vpi"):
        (folder / name).touch()
    write_c_model(skip(), folder, "net")
    (folder / "bench.sv").write_text("mine")
    with pytest.raises(DataError) as error:
        write_c_model(skip(), folder, "net")
    assert str(error.value) == (
        f"{folder} must be a folder that may be replaced, not an earlier golden model with"
        " bench.sv; choose another, or replace it with --force."
    )
    assert (folder / "bench.sv").read_text() == "mine"
    write_c_model(skip(), folder, "net", force=True)
    assert not (folder / "bench.sv").exists()


def test_a_compiler_that_stops_or_is_missing(tmp_path: Path) -> None:
    model = write_c_model(skip(), tmp_path / "c", "net")
    with pytest.raises(ToolError, match=r"^absent-cc must be installed to compile: apt-get"):
        compile_library(model, tmp_path, compiler="absent-cc")
    (tmp_path / "c" / "net.c").write_text("int a = ;\n")
    with pytest.raises(ToolError, match=r"^cc must compile .*, but stopped: .*error.*$"):
        compile_library(model, tmp_path)


def test_a_wrong_model_is_told_by_its_first_tensor(tmp_path: Path) -> None:
    """Weights of another network in the C text: the comparison that the command makes sees it."""
    model = write_c_model(skip(), tmp_path / "c", "net")
    images = random_images(skip(), 1, seed=1)
    total = sum(int(np.prod(t.shape)) for t in skip().tensors.values())
    assert compare(skip(), model, images) == Comparison(7, total, 0, None)
    path = tmp_path / "c" / "net.c"
    text = path.read_text()
    first = re.search(r"weights\d+\[\] = \{\n  (-?\d+),", text)
    assert first
    changed = str(int(first[1]) + (1 if int(first[1]) < 7 else -1))
    path.write_text(text[: first.start(1)] + changed + text[first.end(1) :])
    found = compare(skip(), model, images)
    assert found.mismatches > 0
    assert found.first == "stem.acc"
    assert found.sentence() == (
        f"{found.mismatches:,} of {total:,} integers of 7 tensors differ, first in stem.acc"
    )


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    save(skip(), tmp_path / "my-net.intaglio")
    code, out, err = cli("golden", "my-net.intaglio", "-o", "c", "--json", "made.json")
    assert code == 0, err
    assert "wrote c: my_net.h and my_net.c; compiled: 0 of" in out
    made = json.loads((tmp_path / "made.json").read_text())
    assert (made["name"], made["mismatches"]) == ("my_net", 0)
    assert made["compared"] > 0
    code, out, err = cli("golden", "my-net.intaglio", "-o", "c", "--name", "x", "--check", "0")
    assert code == 0, err
    assert (tmp_path / "c" / "x.c").exists()
    assert not (tmp_path / "c" / "my_net.c").exists()
    refused(cli("golden", "my-net.intaglio", "-o", "c", "--name", "a-b"), "name must be letters")
    refused(cli("golden", "my-net.intaglio", "-o", "."), "a folder from which nothing is read")
    refused(
        cli("golden", "my-net.intaglio", "-o", "c", "--check", "-1"), "--check must be 0 to 10,000"
    )
