"""The command line as a whole: one name for one thing, and old names that still work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tools import Cli

from intaglio.cli.app import app
from intaglio.cli.verb import FORMER, ORDER

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands


def options(command: Any) -> list[Any]:
    return [param for param in command.params if param.param_type_name == "option"]


def names(param: Any) -> list[str]:
    return [*param.opts, *param.secondary_opts]


def element(param: Any) -> str:
    """Type of one value, whether or not several may be given, and without what it is worth."""
    annotation = param.type_descriptor.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.removeprefix("list[").removesuffix("]").removeprefix("pathlib.")


def every_option() -> Iterator[tuple[str, Any]]:
    for name, command in COMMANDS.items():
        for param in options(command):
            yield name, param


def test_every_command_is_in_the_order_of_the_help() -> None:
    assert sorted(COMMANDS) == sorted(ORDER)


def test_an_option_means_one_thing() -> None:
    found = defaultdict(set)
    for _, param in every_option():
        for name in names(param):
            found[name].add((element(param), param.help, bool(param.is_flag)))
    several = {name: kinds for name, kinds in found.items() if len(kinds) > 1}
    assert not several
    assert len(found) > 60


def test_one_thing_has_one_option() -> None:
    """Two options with the same words would be two names for one thing."""
    found = defaultdict(set)
    for _, param in every_option():
        found[param.help].add(tuple(names(param)))
    gates = {("--gates",), ("--gates", "--no-gates")}  # a build's own default is neither
    assert not {h: n for h, n in found.items() if len(n) > 1 and n != gates}


def test_every_option_says_what_it_is() -> None:
    assert not [(c, names(p)) for c, p in every_option() if not (p.help or p.hidden)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_and_short_help(name: str, cli: Cli) -> None:
    assert "--json" in [n for p in options(COMMANDS[name]) for n in names(p)]
    for flag in ("-h", "--help"):
        code, out, _ = cli(name, flag)
        assert code == 0
        for param in options(COMMANDS[name]):
            assert all(n in out for n in names(param))
        for old in FORMER.get(name, {}):
            assert f"{old} " not in out


@pytest.mark.parametrize(
    ("name", "old", "new"), [(c, old, new) for c, row in FORMER.items() for old, new in row.items()]
)
def test_old_names_reach_the_same_value(name: str, old: str, new: str) -> None:
    command = COMMANDS[name]
    (param,) = (p for p in options(command) if new in names(p))
    assert old not in names(param)
    words = [] if param.is_flag else ["7"]
    needed = ["x"] * sum(p.required and p.param_type_name == "argument" for p in command.params)
    for p in options(command):
        needed += [p.opts[-1], "x"] if p.required and p is not param else []
    values = []
    for spelling in (old, new):
        with command.make_context(name, [*needed, spelling, *words]) as ctx:
            values.append(ctx.params[param.name])
    assert values[0] == values[1] != param.default


def test_scenes_still_take_their_folder_as_a_word(cli: Cli) -> None:
    assert cli("scenes", "a", "--count", 1, "--size", 32)[0] == 0
    assert cli("scenes", "-o", "b", "--count", 1, "--side", 32)[0] == 0
