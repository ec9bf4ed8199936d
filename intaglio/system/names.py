"""Names that others gave, as parts of file names: TFLite joins those of all that it fused."""

from __future__ import annotations

LONGEST = 100  # characters; systems take 255 of a file's whole name
TAIL = 40


def shortened(text: str) -> str:
    """The text, or where it is too long its beginning and its end; two may become one."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - TAIL - 2]}__{text[-TAIL:]}"
