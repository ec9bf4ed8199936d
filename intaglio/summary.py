"""What `intaglio info` says of a Program: operations, types, accumulators, memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from intaglio.fixed import IntType
from intaglio.ops import Conv2d
from intaglio.program import Program


@dataclass(frozen=True)
class Row:
    """One operation. `acc_bits` is the proved accumulator width of a Conv2d, per worst channel;
    `acc_bits_min` that of its narrowest channel."""

    tensor: str
    op: str
    shape: tuple[int, int, int]
    type: str
    lo: int
    hi: int
    acc_bits: int | None
    acc_bits_min: int | None
    macs: int
    origin: str

    def cells(self) -> tuple[str, ...]:
        """Text for a table."""
        acc = "-" if self.acc_bits is None else f"{self.acc_bits_min}-{self.acc_bits}"
        macs = f"{self.macs / 1e6:.3f}" if self.macs else "-"
        shape = "x".join(map(str, self.shape))
        interval = f"[{self.lo}, {self.hi}]"
        return (self.tensor, self.op, shape, self.type, interval, acc, macs, self.origin or "-")


@dataclass(frozen=True)
class Summary:
    """Rows in order; `weight_bits` and `table_bits` are constants at their width in a ROM,
    shared ones once; `largest_bytes` is the largest tensor of an image in the simulator's bytes."""

    rows: tuple[Row, ...]
    arithmetic: str
    weight_bits: int
    table_bits: int
    macs: int
    largest_bytes: int
    digest: str

    def footer(self) -> str:
        """One line under the table."""
        return (
            f"{len(self.rows)} ops, {self.macs / 1e6:.2f} MMAC an image, weights"
            f" {self.weight_bits / 8192:.1f} KiB, tables {self.table_bits / 8192:.1f} KiB"
            f" ({self.weight_bits + self.table_bits:,} bits of ROM), largest tensor"
            f" {self.largest_bytes / 1024:.1f} KiB, arithmetic {self.arithmetic},"
            f" digest {self.digest[:12]}"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)


def summarise(program: Program) -> Summary:
    """Derive the summary from the Program alone."""
    macs = program.macs()
    rows = tuple(row(program, n, macs) for n in range(len(program.ops)))
    weights = {op.weight for op in program.of_kind(Conv2d)}
    bits = {
        name: c.array.size * (c.code_bits if name in weights else c.type.bits)
        for name, c in program.constants.items()
    }
    sizes = [
        t.shape[0] * t.shape[1] * t.shape[2] * storage_bytes(t.type)
        for t in program.tensors.values()
    ]
    return Summary(
        rows,
        program.arithmetic.name,
        sum(n for name, n in bits.items() if name in weights),
        sum(n for name, n in bits.items() if name not in weights),
        sum(macs.values()),
        max(sizes),
        program.digest(),
    )


def storage_bytes(type: IntType) -> int:
    """Bytes of one value in memory: 1, 2, 4 or 8."""
    return next(n for n in (1, 2, 4, 8) if type.bits <= 8 * n)


def row(program: Program, n: int, macs: dict[str, int]) -> Row:
    """The row of operation `n`."""
    op = program.ops[n]
    t = program.tensors[op.output]
    worst = least = None
    if isinstance(op, Conv2d):
        lo, hi = program.proved_accumulator(op)
        widths = [IntType.accumulating(int(a), int(b)).bits for a, b in zip(lo, hi, strict=True)]
        worst, least = max(widths), min(widths)
    return Row(
        t.name, type(op).__name__, t.shape, str(t.type), t.lo, t.hi, worst, least,
        macs.get(op.output, 0), op.origin,
    )  # fmt: skip
