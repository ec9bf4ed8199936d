"""Concat: channels of several streams one after the other."""

from collections.abc import Sequence

from intaglio.errors import BuildError
from intaglio.hdl.levels import Merge


class Concat(Merge):
    """Of every pixel the beats of `i[0]`, then those of `i[1]`, ...

    channels  of each operand; `lanes` divides them all.
    """

    def __init__(self, *, channels: Sequence[int], lanes: int, bits: int) -> None:
        if any(c % lanes for c in channels):
            raise BuildError(
                f"The lanes of a concatenation must divide {tuple(channels)} channels, not be"
                f" {lanes}."
            )
        super().__init__(beats=[c // lanes for c in channels], width=lanes * bits)
