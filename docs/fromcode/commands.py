"""Every command of the command line with its arguments and options, from their signatures."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer.main
from typer.models import ArgumentInfo, CommandInfo, OptionInfo
from typer.utils import get_params_from_function

from fromcode.markdown import code, escaped
from intaglio.cli.app import app
from intaglio.cli.choices import listed
from intaglio.cli.verb import ORDER

VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH", bool: ""}


@dataclass(frozen=True)
class Setting:
    """An argument or option as `--help` would show it."""

    names: tuple[str, ...]  # of an option; empty for an argument
    value: str  # what stands for its value; empty for a switch
    choices: tuple[str, ...]
    help: str
    default: Any  # ... where it must be given
    many: bool

    @property
    def required(self) -> bool:
        """Whether the command is refused without it."""
        return self.default is ...


def plain(annotation: Any) -> tuple[Any, bool]:
    """What one value is, without None and lists; and whether there may be several."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not NoneType)
    if get_origin(annotation) is list:
        return get_args(annotation)[0], True
    return annotation, False


def choices_of(kind: Any) -> tuple[str, ...]:
    """The values of a choice; none for other types."""
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(str(member.value) for member in kind)
    return ()


def settings(command: CommandInfo) -> Iterator[Setting]:
    """Of one command, hidden ones left out, in the order of its signature."""
    assert command.callback is not None
    for name, parameter in get_params_from_function(command.callback).items():
        info = parameter.default
        if not isinstance(info, (OptionInfo, ArgumentInfo)) or info.hidden:
            continue
        kind, many = plain(parameter.annotation)
        choices = choices_of(kind)
        value = info.metavar or "|".join(choices) or VALUES.get(kind, "TEXT")
        names: tuple[str, ...] = ()
        if isinstance(info, ArgumentInfo):
            value = info.metavar or name.upper()
        else:
            given = [part for word in info.param_decls or () for part in word.split("/")]
            names = tuple(given) or (f"--{name.replace('_', '-')}",)
            value = "" if kind is bool else value
            choices = choices or tuple(listed(names[-1]))
        yield Setting(names, value, choices, info.help or "", info.default, many)


def commands() -> dict[str, CommandInfo]:
    """By name, in the order of a pipeline; hidden ones left out."""
    known = {c.name or c.callback.__name__: c for c in app.registered_commands if c.callback}
    return {name: known[name] for name in sorted(known, key=ORDER.index) if not known[name].hidden}


def described(setting: Setting) -> str:
    """The sentence below a setting."""
    parts = [escaped(setting.help)] if setting.help else []
    default = setting.default
    if setting.required:
        parts.append("Must be given.")
    elif default not in (None, False, (), []):
        shown = default.value if isinstance(default, Enum) else default
        parts.append(f"Default: `{shown}`." if default is not True else "Default: on.")
    if setting.choices:
        parts.append(f"One of {code(setting.choices)}.")
    if setting.many and setting.names and "repeatable" not in setting.help:
        parts.append("May be given several times.")
    return " ".join(parts)


def usage(name: str, found: list[Setting]) -> str:
    """The line that one types, what may be left out in brackets."""
    words = [f"intaglio {name}"]
    for setting in found:
        word = " ".join(part for part in (*setting.names[:1], setting.value) if part)
        if setting.required or not setting.names:
            word += " ..." if setting.many and not word.endswith("...") else ""
            words.append(word if setting.required else f"[{word}]")
    return " ".join([*words, "[options]"])


def entry(name: str, command: CommandInfo) -> str:
    """One command's section."""
    found = list(settings(command))
    said = inspect.cleandoc(command.help or inspect.getdoc(command.callback) or "")
    lines = [f"## {name}", "", f"```{{program}} intaglio {name}\n```", "", escaped(said), "",
             "```", usage(name, found), "```", ""]  # fmt: skip
    for setting in found:
        value = f" {setting.value}" if setting.value else ""
        head = ", ".join(word + value for word in setting.names) or setting.value
        lines += [f"```{{option}} {head}", described(setting), "```", ""]
    return "\n".join(lines)


def general() -> str:
    """The options of `intaglio` itself, those that Typer adds among them."""
    group = typer.main.get_command(app)
    lines = ["## General options", "", "```{program} intaglio\n```", ""]
    for param in group.params:
        said = escaped(str(getattr(param, "help", "") or ""))
        lines += [f"```{{option}} {', '.join(param.opts)}", said, "```", ""]
    return "\n".join(lines)


def markdown() -> str:
    """Every command."""
    return "\n".join([general(), *(entry(name, each) for name, each in commands().items())])
