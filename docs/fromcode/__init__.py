"""What the site takes from the code.

A page says `<!-- from the code: NAME -->`, and the Markdown of that name stands there in the site.

A page so stays readable by itself, and nothing generated is kept.
"""

import re
from collections.abc import Callable
from typing import Any

import intaglio
from fromcode import commands, docstrings, operators
from fromcode.markdown import ROOT

PLACE = re.compile(r"<!-- from the code: ([a-z ]+) -->")
TOUR = re.compile(r"\[([^\]]*)\]\(\.\./examples/tour\.ipynb\)")


def readme() -> str:
    """README.md below its title, its links as they are from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n")[2]
    return re.sub(r"\]\((?!https?:|#)(?:docs/)?", lambda m: "](" if "docs/" in m[0] else "](../",
                  text)  # fmt: skip


def verbs() -> str:
    """autodoc's lines for every name that `intaglio` itself has."""
    lines = ["```{eval-rst}"]
    for name in intaglio.__all__:
        found = getattr(intaglio, name)
        lines += [f".. auto{'class' if isinstance(found, type) else 'function'}:: intaglio.{name}"]
        lines += ["   :members:"] if isinstance(found, type) else []
        lines.append("")
    return "\n".join([*lines, "```"])


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands.markdown,
    "devices": operators.devices,
    "onnx": operators.onnx,
    "tflite": operators.tflite,
    "presets": operators.presets,
    "readme": readme,
    "targets": operators.targets,
    "torch": operators.of_torch,
    "torch refused": operators.of_torch_refused,
    "verbs": verbs,
}


def filled(app: Any, docname: str, source: list[str]) -> None:
    """Sphinx's `source-read`: every place in a page gets its Markdown."""
    text = PLACE.sub(lambda place: PARTS[place[1]](), source[0])
    source[0] = TOUR.sub(r"{doc}`\1 <tour>`", text)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's way in."""
    app.connect("source-read", filled)
    app.connect("autodoc-before-process-signature", docstrings.before)
    app.connect("autodoc-process-signature", docstrings.signature)
    app.connect("autodoc-process-docstring", docstrings.process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
