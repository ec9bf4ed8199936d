"""A command of intaglio: its old spellings, the words it can be given, what is refused of them."""

import os
import re
from contextlib import suppress
from copy import copy
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

from intaglio.cli.choices import listed
from intaglio.cli.usage import GIVEN, given, name_of, options_of
from intaglio.errors import DataError

DIGITS, DECIMALS = re.compile(r"-?[0-9]{1,18}"), re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")

# Of each command: what an option was called, and is called now. No help shows the old one.
FORMER = {
    "scenes": {"--size": "--side", "--out": "--output"},
    "quantize": {"--count": "--limit"},
    "eval": {"--count": "--calibration-limit"},
    "compare": {"--image": "--images"},
    "diverge": {"--count": "--tensor-limit"},
    "build": {"--image": "--images", "--lanes": "--multipliers"},
    "bitstream": {"--gate": "--gates", "--no-gate": "--no-gates"},
    "report": {"--image": "--images"},
    "demo": {"--out": "--output"},
}
# The module of each command, in the order in which one needs them.
HOMES = {
    "scenes": "quantizing", "train": "training", "quantize": "quantizing", "import": "interchange",
    "info": "network", "run": "network", "eval": "network", "compare": "network",
    "diverge": "divergence", "trace": "tracing", "golden": "tracing", "export": "interchange",
    "build": "hardware", "verify": "hardware", "bitstream": "hardware", "report": "reporting",
    "demo": "hardware",
}  # fmt: skip
ORDER = tuple(HOMES)


class Plain:
    """The value of an option or argument where that is plain: a word, a path, a number in digits,
    one of the words that it can be. Typer's own way, which says what is wrong with others, takes a
    tenth of a second to import."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """As `typer._coercion.RuntimeParam.coerce`, which has what is not plain."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        of = get_args(kind) if get_origin(kind) is list else ()
        with suppress(LookupError):
            if several and of and isinstance(value, list | tuple):
                return [plain(one, of[0], info) for one in value]
            if not several:
                return plain(value, kind, info)
        from typer._coercion import build_runtime_param

        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


def eased(params: list[Any]) -> list[Any]:
    """The same, their values as Plain has them."""
    for param in params:
        vars(param)["_runtime_param"] = Plain()  # where Typer keeps its own
    return params


def plain(value: Any, kind: Any, info: Any) -> Any:
    """A value of a type. Raises LookupError where it is not plain, or not to be taken as it is."""
    asked = (info.parser, info.min, info.max, info.path_type)
    if any(one is not None for one in asked) or info.exists or info.resolve_path or info.allow_dash:
        raise LookupError
    if type(value) is kind or (kind is Path and isinstance(value, Path)):
        return value
    if isinstance(value, str):
        if kind is Path and (os.access(value, os.R_OK) or not os.path.lexists(value)):
            return Path(value)
        if kind is int and DIGITS.fullmatch(value):
            return int(value)
        if kind is float and DECIMALS.fullmatch(value):
            return float(value)
        if isinstance(kind, type) and issubclass(kind, Enum):
            found = [one for one in kind if one.value == value]
            if found:
                return found[0]
    raise LookupError


class Verb(TyperCommand):
    """One command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments."""
        return eased(super().get_params(ctx))

    def make_parser(self, ctx: Any) -> Any:
        """The parser, which knows the old spellings too."""
        parser = super().make_parser(ctx)
        options = [param for param in self.params if param.param_type_name == "option"]
        for old, new in FORMER.get(self.name or "", {}).items():
            (now,) = (p for p in options if new in (*p.opts, *p.secondary_opts))
            twin = copy(now)
            twin.opts, twin.secondary_opts = ([old], []) if new in now.opts else ([], [old])
            twin.add_to_parser(parser, ctx)
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises DataError where a value is empty, or an option, so that it was forgotten."""
        ctx.meta[GIVEN] = list(args)
        left = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return left
        known, words = options_of(ctx), given(ctx)
        for param in self.params:
            for word in words.get(param.name, ()):
                if word == "":
                    raise DataError(f"{name_of(param)} must be a value, not ''.")
                if word in known:
                    raise DataError(
                        f"{name_of(param)} must be followed by its value, not by the option {word}."
                    )
        return left

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The help of the options, with the words that each can be."""
        for param in self.get_params(ctx):
            words = ", ".join(listed(param.opts[-1]))
            about = getattr(param, "help", None) or ""
            if words and words not in about:
                vars(param)["help"] = f"{about.rstrip('.')}: {words}."
        super().format_options(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line, without hidden arguments."""
        shown = [p for p in self.get_params(ctx) if not getattr(p, "hidden", False)]
        pieces = [piece for p in shown for piece in p.get_usage_pieces(ctx)]
        return [self.options_metavar or "", *pieces]


class Pipeline(TyperGroup):
    """All commands, in the order in which one needs them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options that need no command."""
        return eased(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, as `--help` shows them."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each command with the whole first paragraph of its help."""
        rows = []
        for name in self.list_commands(ctx):
            about = self.commands[name].help or ""
            rows.append((name, " ".join(about.partition("\n\n")[0].split())))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
