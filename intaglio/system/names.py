"""Names that others gave, as parts of file names: TFLite joins those of all that it fused."""

from __future__ import annotations

LONGEST = 100  # characters; systems take 255 of a file's whole name


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, or where it is too long its beginning and its end; two may become one."""
    if len(text) <= longest:
        return text
    tail = 2 * longest // 5
    return f"{text[: longest - tail - 2]}__{text[-tail:]}"
