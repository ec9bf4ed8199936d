"""What blocks say about streams: the shape of a frame, of a beat, and a few wires."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import stream

from intaglio.errors import BuildError
from intaglio.fixed import IntType


@dataclass(frozen=True)
class Frame:
    """The shape (C, H, W) of one image on a stream."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1:
            raise BuildError(f"A frame must have at least one channel and pixel, not {self}.")

    @property
    def pixels(self) -> int:
        """H * W."""
        return self.height * self.width

    def beats(self, lanes: int) -> int:
        """Beats of the whole frame at `lanes` channels a beat."""
        return self.pixels * ceil_div(self.channels, lanes)


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def common_channels(frames: Sequence[Frame]) -> int:
    """The channel count of a multi-level stream, the same at every level."""
    channels = {frame.channels for frame in frames}
    if len(channels) != 1:
        raise BuildError(f"Frames of one stream must have one channel count, not {channels}.")
    return channels.pop()


def lanes_signature(lanes: int, bits: int) -> stream.Signature:
    """A stream of `lanes` channels of `bits` each."""
    return stream.Signature(unsigned(lanes * bits))


def shape_of(type: IntType) -> Shape:
    """The Amaranth shape of an integer type."""
    return signed(type.bits) if type.signed else unsigned(type.bits)


def lane(word: Value, index: int, type: IntType) -> Value:
    """Lane `index` of a beat, as a number of `type`."""
    bits = word[index * type.bits : (index + 1) * type.bits]
    return bits.as_signed() if type.signed else bits


def delay(m: Module, value: Any, cycles: int, name: str, *, reset: bool = True) -> Value:
    """`value`, `cycles` clocks later."""
    value = Value.cast(value)
    for k in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{k + 1}", reset_less=not reset)
        m.d.sync += stage.eq(value)
        value = stage
    return value


def pipe(m: Module, value: Any, cycles: int, name: str) -> Value:
    """`delay` of a number that a delayed strobe goes with: it needs no reset, nor its wires."""
    return delay(m, value, cycles, name, reset=False)


def go_delay(pass_cycles: int) -> int:
    """Cycles from room in a queue to the last word of a pass that it lets through: a register's,
    except where a pass takes a single cycle."""
    return int(pass_cycles > 1)


def counter(limit: int, name: str, init: int = 0) -> Signal:
    """A register that counts 0 .. limit - 1, from `init`; at least one bit wide."""
    return Signal(range(max(2, limit)), name=name, init=init)


def advance(m: Module, register: Signal, last: Any) -> None:
    """One step of a cyclic counter, back to 0 after the `last`."""
    m.d.sync += register.eq(Mux(last, 0, register + 1))


def below(a: Value, b: Value) -> Value:
    """Whether a < b: the sign of their difference. Between signed numbers that vary `<` becomes the
    carries into and out of the sign, by which the tools take the carry chain apart."""
    return (a - b)[-1]


def by_level(m: Module, level: Signal, values: Sequence[int], name: str) -> Value:
    """The level's value; a constant when all levels agree."""
    widest = Shape.cast(range(min(values), max(values) + 1))
    if len(set(values)) == 1:
        return Const(values[0], widest)
    chosen = Signal(widest, name=name)
    with m.Switch(level):
        for k, value in enumerate(values):
            with m.Case(k):
                m.d.comb += chosen.eq(value)
    return chosen
