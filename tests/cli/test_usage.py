"""What the command line says of itself, and of words that it cannot use."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import skip
from rich.console import Console
from tools import Cli, refused
from typer import BadParameter
from typer._coercion import build_runtime_param

import intaglio
from intaglio.cli import shared
from intaglio.cli.app import app
from intaglio.cli.choices import CHOICES
from intaglio.cli.network import EngineName
from intaglio.cli.quantizing import Method
from intaglio.cli.verb import ORDER, Plain
from intaglio.file import save

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined] # a group
HEAVY = ("torch", "numba", "numpy", "PIL", "scipy", "amaranth")
ASKED = """
import sys
from intaglio.cli import main
sys.argv = ["intaglio", *sys.argv[1:]]
try:
    main()
finally:
    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def loaded(*words: str) -> str:
    """Which heavy packages a command imports."""
    script = ASKED.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
    )
    return done.stderr.strip().splitlines()[-1]


def test_the_version_needs_nothing(cli: Cli) -> None:
    assert cli("--version") == (0, f"intaglio {intaglio.__version__}\n", "")
    assert loaded("--version") == loaded("--help") == "[]"


def test_what_is_said_of_a_program_needs_no_compiler(cli: Cli, tmp_path: Path) -> None:
    save(skip(), tmp_path / "skip.intaglio")
    assert loaded("info", str(tmp_path / "skip.intaglio")) == "['numpy']"
    code, out, _ = cli("run", tmp_path / "missing.intaglio", "-h")
    assert code == 0
    assert "intaglio run" in out


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_plain_values_are_those_of_typer(data: st.DataObject) -> None:
    """What is taken as it is, and what is left to Typer, which must say the same of it."""
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    command = COMMANDS[name]
    ctx = command.make_context(name, [], resilient_parsing=True)
    param: Any = data.draw(st.sampled_from(command.get_params(ctx)))
    word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
    word |= st.integers().map(str) | st.floats().map(str)
    word |= st.sampled_from(
        ["1e3", "+1", "1_0", "0x1", "lp", "LP", "sim", ".", "/", "-0", "07", " 7"]
    )
    several = param.multiple or param.nargs == -1
    value = data.draw(st.none() | (st.lists(word, max_size=3) if several else word))
    found = []
    for way in (Plain(), build_runtime_param(param.type_descriptor)):
        try:
            got: Any = way.coerce(value, param=param, ctx=ctx)
            found.append((type(got), repr(got)))
        except BadParameter as error:
            found.append((BadParameter, error.format_message()))
    assert found[0] == found[1]


def test_help_needs_neither_torch_nor_compiled_code() -> None:
    for name in ("build", "quantize"):
        found = loaded(name, "-h")
        assert not any(heavy in found for heavy in ("torch", "numba", "amaranth", "scipy"))


def test_the_overview_is_whole(cli: Cli) -> None:
    code, out, _ = cli()
    assert (code, out) == cli("--help")[:2] == cli("-h")[:2]
    assert code == 0
    assert "..." not in out.replace("[ARGS]...", "")
    words = " ".join(out.split())
    for name in ORDER:
        about = " ".join(COMMANDS[name].help.partition("\n\n")[0].split())
        assert f"{name} {about}" in words


def test_every_choice_is_listed(cli: Cli) -> None:
    listed = 0
    for name, command in COMMANDS.items():
        words = "".join(cli(name, "-h")[1].split())
        for param in command.params:
            known = CHOICES.get(param.opts[-1])
            if known is not None:
                assert f"{','.join(known())}." in words, (name, param.opts)
                listed += 1
            if param.type_descriptor.is_choice:
                choices = "|".join(c.value for c in param.type_descriptor.choices)
                assert f"<{choices}>" in words
                listed += 1
    assert listed >= 15


def test_enumerations_are_those_of_the_code_that_decides() -> None:
    from intaglio.api import Engine
    from intaglio.quant.settings.config import Method as Known

    assert tuple(Method) == get_args(Known)
    assert tuple(EngineName) == get_args(Engine)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("foo",), "The command must be one of scenes, train, "),
        (("evil",), "not 'evil'; did you mean eval?"),
        (("-x",), "`intaglio` must be given options that it has, not -x; `intaglio -h` lists them"),
        (("info", "x", "--jsn", "y"), "options that it has, not --jsn; did you mean --json?"),
        (("info",), "MODEL.intaglio must be given: File that quantize, train or import wrote"),
        (("eval", "x"), "--data must be given: COCO annotations of the images; `intaglio eval -h`"),
        (("info", "a", "b"), "must be given MODEL.intaglio alone, not 'b' too; see `intaglio info"),
        (("scenes", "--count"), "--count must be followed by its value, not by nothing."),
        (("scenes", "-o", "--count", "3"), "--output must be followed by its value, not by the op"),
        (("scenes", "--count", "1.5"), "--count must be a whole number, not '1.5'."),
        (("scenes", "--count", "1", "--count="), "--count must be a whole number, not ''."),
        (("scenes", "--size", "x"), "--side must be a whole number, not 'x'."),
        (("run", "--threshold", "high"), "--threshold must be a number, not 'high'."),
        (("eval", "--engine", "x"), "--engine must be one of float, fake, sim, reference, rtl"),
        (("scenes", "-o", "x", "--split", "y"), "--split must be one of train, held-out, not 'y'."),
        (("run", "--resize=yes"), "--resize must stand alone, without a value."),
        (("scenes",), "--output must be given"),
        (("info", ""), "MODEL.intaglio must be a value, not ''."),
        (("scenes", "-o", "", "--count", "1"), "--output must be a value, not ''."),
    ],
)  # fmt: skip
def test_words_that_mean_nothing(words: tuple[str, ...], said: str, cli: Cli) -> None:
    refused(cli(*words), f"intaglio: {said}" if said[0].isupper() else said)


def completed(*words: str) -> list[str]:
    """What a shell is told to complete the last word with; nothing: names of files."""
    asked = {"COMP_WORDS": " ".join(["intaglio", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [Path(sys.executable).with_name("intaglio")], capture_output=True, text=True, check=True,
        env={**os.environ, **asked, "_INTAGLIO_COMPLETE": "complete_bash"},
    )  # fmt: skip
    return done.stdout.split()


def test_shells_complete_commands_options_and_choices(cli: Cli) -> None:
    assert completed("qu") == ["quantize"]
    assert "--limit" in completed("quantize", "--")
    assert completed("compare", "--im") == ["--images"]  # not --image, the old name
    assert completed("quantize", "--arithmetic", "to") == ["tosa"]
    assert completed("build", "x", "--target", "ice") == ["ice40-up5k"]
    assert completed("quantize", "--method", "p") == ["percentile"]
    for files in (("quantize", "--images", "a"), ("info", "a"), ("run", "a", "-o", "b")):
        assert completed(*files) == []
    code, out, _ = cli("--show-completion")
    assert code in (0, 1)  # 1 where no shell is found to be the parent
    assert "_INTAGLIO_COMPLETE" in out or code


NAMES = st.lists(st.text("abc.[]/:x1", min_size=1, max_size=60), min_size=1, max_size=4)


@given(NAMES, st.integers(20, 200), st.booleans())
@settings(max_examples=60)
def test_no_table_cuts_a_word(names: list[str], width: int, terminal: bool) -> None:
    file = io.StringIO()
    kept = shared.terminal
    shared.terminal = lambda: Console(
        file=file, width=width, force_terminal=terminal, color_system=None, markup=False,
        emoji=False, soft_wrap=True,
    )  # fmt: skip
    try:
        rows = [(name, str(n), name[::-1]) for n, name in enumerate(names)]
        shared.show("[b]title", ("layer", "n", "from"), rows, left=("layer",), names=("layer",))
    finally:
        shared.terminal = kept
    lines = file.getvalue().splitlines()
    assert lines[0].strip() == "[b]title"
    found = [[""] * 3]
    for line in lines[lines.index(next(x for x in lines if x.startswith("┡"))) + 1 : -1]:
        cells = [cell.strip() for cell in line.split("│")[1:4]]
        if cells[1]:
            found.append(["", "", ""])
        found[-1] = [a + b for a, b in zip(found[-1], cells, strict=True)]
    assert found[1:] == [[*row] for row in rows]
    if not terminal:
        assert len(lines) == len(rows) + 5
