# amaranth: UnusedElaboratable=no
"""What the engines with weights have in common: a window, a ROM of weights, and their settings."""

from collections.abc import Callable, Sequence
from typing import Required, TypedDict

from intaglio.fixed import IntType, Rounding, code_bits
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.engine import Engine, weight_sets
from intaglio.hdl.geometry import Geometry, Padding, Pair
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.pack import Ints
from intaglio.hdl.products import ProductForm
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame
from intaglio.hdl.window import Window


class Settings(TypedDict, total=False):
    """What both engines are told, by keyword; `ConvEngine` says what each means."""

    frames: Required[Sequence[Frame]]
    weights: Required[Ints]
    x: Required[IntType]
    w: Required[IntType]
    odd: bool
    form: ProductForm
    y: Required[IntType]
    accumulator: Required[Accumulator]
    scalings: Required[Sequence[Scaling]]
    sets: Sequence[int]
    rounding: Rounding
    out_lanes: Required[int]
    stride: Pair
    dilation: Pair
    padding: Padding
    pad_values: Sequence[Sequence[int]]
    rows: int | None
    pixels: int
    hard: Hard
    rom: str | None


class WeightedEngine(Engine):
    """An `Engine` whose weights are a ROM, read in the order of the window's walk.

    lanes, passes, repeats, zero_tail   how the window walks: `Window`'s lanes, groups, ...
    words   (kernel (Cout, Cin / groups, Kh, Kw), bits of a code) to the words of its walk.
    codes   weights in a word; of packed products come the signs of their operands behind them.
    """

    def __init__(
        self,
        *,
        lanes: int,
        passes: int,
        repeats: int = 1,
        zero_tail: bool = False,
        pairs: Sequence[Sequence[tuple[int, int]]],
        groups: int,
        words: Callable[[Ints, int], Sequence[int]],
        codes: int,
        frames: Sequence[Frame],
        weights: Ints,
        x: IntType,
        w: IntType,
        odd: bool = False,
        form: ProductForm = "dsp",
        y: IntType,
        accumulator: Accumulator,
        scalings: Sequence[Scaling],
        sets: Sequence[int] = (),
        rounding: Rounding = "RND",
        out_lanes: int,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        pad_values: Sequence[Sequence[int]] = ((0,),),
        rows: int | None = None,
        pixels: int = 1,
        hard: Hard = ANY,
        rom: str | None = None,
    ) -> None:
        kernels, bits = weight_sets(weights), code_bits(w, odd)
        signs = len(pairs) // 2 * len(pairs[0]) if form == "packed" and not odd else 0
        kh, kw = kernels.shape[-2:]
        read = [word for kernel in kernels for word in words(kernel, bits)]
        super().__init__(
            window=Window(
                frames=frames,
                geometry=Geometry((kh, kw), stride, dilation, padding),
                x=x,
                lanes=lanes,
                groups=passes,
                repeats=repeats,
                pad_values=pad_values,
                zero_tail=zero_tail,
                rows=rows,
                pixels=pixels,
                late=hard.late,
                tells=len(kernels) > 1,
                rom=rom,
            ),
            pairs=pairs,
            kernels=kernels,
            sets=sets,
            groups=groups,
            weights=Rom(
                words=read,
                width=codes * bits + signs,
                file=None if rom is None else f"{rom}_weights.hex",
                late=hard.late,
            ),
            w=w,
            odd=odd,
            form=form,
            accumulator=accumulator,
            y=y,
            scalings=scalings,
            rounding=rounding,
            out_lanes=out_lanes,
            hard=hard,
            rom=rom,
        )
