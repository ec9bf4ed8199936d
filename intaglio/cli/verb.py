"""A command of intaglio: its old spellings, the words it can be given, what is refused of them."""

from copy import copy
from typing import Any

from typer.core import TyperCommand, TyperGroup

from intaglio.cli.choices import listed
from intaglio.cli.usage import GIVEN, given, name_of, options_of
from intaglio.errors import DataError

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
ORDER = (
    "scenes", "train", "quantize", "import", "info", "run", "eval", "compare", "diverge", "trace",
    "golden", "export", "build", "verify", "bitstream", "report", "demo",
)  # fmt: skip


class Verb(TyperCommand):
    """One command."""

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
