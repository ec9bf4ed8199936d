"""A command of intaglio: old spellings of its options still work, and no help shows them."""

from copy import copy
from typing import Any

from typer.core import TyperCommand

# Of each command: what an option was called, and is called now.
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

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line, without hidden arguments."""
        shown = [p for p in self.get_params(ctx) if not getattr(p, "hidden", False)]
        pieces = [piece for p in shown for piece in p.get_usage_pieces(ctx)]
        return [self.options_metavar or "", *pieces]
