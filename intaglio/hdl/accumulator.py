"""What an accumulator is: its width, and what happens when that is too narrow."""

from dataclasses import dataclass

import numpy as np

from intaglio.fixed import IntType, Overflow, SaturateAt, overflow_to
from intaglio.hdl.pack import Ints


@dataclass(frozen=True)
class Accumulator:
    """bits: signed width that neither the sum nor any partial sum leaves, as proved.

    forced: a narrower signed width that the arithmetic prescribes, or None. It then wraps, or
    saturates at the "end" of the exact sum or after every multiply-accumulate ("mac", which needs
    SIMD = 1: products in the order ky, kx, input channel).
    """

    bits: int
    forced: int | None = None
    overflow: Overflow = "wrap"
    saturate_at: SaturateAt = "end"

    @property
    def narrow(self) -> IntType | None:
        """The forced type, where it is narrower than proved."""
        if self.forced is None or self.forced >= self.bits:
            return None
        return IntType(self.forced, True)

    @property
    def each_step(self) -> bool:
        """Whether it saturates after every product."""
        return self.narrow is not None and self.overflow == "saturate" and self.saturate_at == "mac"

    @property
    def final(self) -> IntType | None:
        """The type to which the exact sum is clamped at the end, if it is."""
        ends = self.overflow == "saturate" and self.saturate_at == "end"
        return self.narrow if ends else None

    @property
    def type(self) -> IntType:
        """What the register holds. A register that wraps need not hold more than what is left."""
        if self.narrow is None or self.final is not None:
            return IntType(self.bits, True)
        return self.narrow

    def model(self, products: Ints) -> Ints:
        """Sums over the last axis, in order."""
        narrow = self.narrow
        if narrow is None:
            return np.asarray(products.sum(axis=-1))
        flat = products.reshape(-1, products.shape[-1]).tolist()
        sums = []
        for row in flat:
            total = 0
            for product in row:
                total += product
                if self.each_step:
                    total = overflow_to(total, narrow, "saturate")
            sums.append(overflow_to(total, narrow, self.overflow))
        return np.array(sums).reshape(products.shape[:-1])
