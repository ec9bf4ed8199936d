"""HTML as text: elements, and the small pieces that notebooks show of a result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

# Its own colours are the notebook's; a page has more of them.
STYLE = """
.intaglio { font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.intaglio h4 { font-size: 16px; margin: 4px 0; overflow-wrap: anywhere; }
.intaglio dl { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; }
.intaglio dl div { border: 1px solid #8884; border-radius: 8px; padding: 6px 12px; }
.intaglio dt { opacity: .7; font-size: 12px; } .intaglio dd { margin: 0; font-weight: 600; }
.intaglio table { border-collapse: collapse; font-size: 12.5px; }
.intaglio th, .intaglio td { padding: 3px 8px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #8884; }
.intaglio th:first-child, .intaglio td:first-child { text-align: left; }
.intaglio details { overflow-x: auto; } .intaglio img { max-width: 100%; border-radius: 6px; }
"""


def text_of(value: object) -> str:
    """Text for XML: escaped, and without the characters that XML cannot hold."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd",
                         str(value)))  # fmt: skip


def tag(name: str, /, *children: str, **attributes: object) -> str:
    """An element. Children are markup; attributes are escaped, `font_size` is `font-size`."""
    pairs = [(k.rstrip("_").replace("_", "-"), v) for k, v in attributes.items() if v is not None]
    head = name + "".join(f' {k}="{text_of(number(v))}"' for k, v in pairs)
    return f"<{head}>{''.join(children)}</{name}>" if children else f"<{head}/>"


def number(value: object) -> object:
    """A float in the fewest digits that matter on a screen."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def cards(facts: Mapping[str, object], style: str | None = None) -> str:
    """Figures under their names, beside each other."""
    made = [tag("div", tag("dt", text_of(k)), tag("dd", text_of(v))) for k, v in facts.items()]
    return tag("dl", *made, class_=style) if made else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts."""
    head = tag("tr", *(tag("th", text_of(h)) for h in heads))
    body = [tag("tr", *(tag("td", text_of(cell)) for cell in row)) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body))


def folded(title: str, part: str) -> str:
    """Something long that is opened by a click."""
    return tag("details", tag("summary", text_of(title)), part)


def snippet(title: str, *parts: str) -> str:
    """What a notebook shows of a result."""
    return tag("div", tag("style", STYLE), tag("h4", text_of(title)), *parts, class_="intaglio")
