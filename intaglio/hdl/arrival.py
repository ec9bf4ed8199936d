# amaranth: UnusedElaboratable=no
"""Whether what a window waits for has arrived in its line buffer."""

from amaranth.hdl import Module, Mux, Signal, Value

from intaglio.hdl.geometry import Geometry
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.nest import Loop
from intaglio.hdl.stream import by_level, pipe


def arrived(
    m: Module,
    issue: Signal,
    loops: dict[str, Loop],
    level: Signal,
    height: Value,
    *,
    buffer: LineBuffer,
    geometry: Geometry,
    pixels: int,
    early: bool,
    ahead: bool,
) -> Value:
    """Whether the words of the output pixel that comes next may be issued.

    (need_y, need_x) is what it waits for: a column beyond the frame means the whole row, a row
    above it one of the frame before. `early`, where an output pixel takes several cycles: it is
    looked up for the next one as soon as the first word of one is issued, and the answer is a
    register. Rows are those of the frame that is walked until its last word is issued; so those of
    the next frame's first pixel lie beyond the frame's height until then. `ahead`: the row that
    comes next is a register too.
    """
    top, bottom, left, right = geometry.padding
    (sy, sx), (span_y, span_x) = geometry.stride, geometry.span
    reach = span_x - 1 + (pixels - 1) * sx  # from a corner to the pixel waited for
    heights, widths = [f.height for f in buffer.frames], [f.width for f in buffer.frames]
    firsts = [min(span_y - top, h) - 1 for h in heights]
    rows = range(-top, max(heights) + bottom + span_y + sy)
    columns = range(-left, max(widths) + right + span_x + pixels * sx)
    need_y = Signal(rows, init=firsts[0])
    need_x = Signal(columns, init=reach - left)
    x_loop, y_loop = loops["x"], loops["y"]
    lowest = by_level(m, level, [h - 1 for h in heights], "lowest")
    first = by_level(m, level, firsts[1:] + firsts[:1], "next_first")
    next_need: Value = Signal.like(need_y, name="following_need")
    following = first + height if early else first
    m.d.comb += next_need.eq(Mux(y_loop.last, following, least(need_y + sy, lowest)))
    if ahead:
        next_need = pipe(m, next_need, 1, "next_need")
    there, begun = buffer.has(need_y, need_x), Signal()
    moves = issue & (~begun if early else x_loop.steps)
    with m.If(moves):
        m.d.sync += need_x.eq(Mux(x_loop.last, reach - left, need_x + pixels * sx))
        with m.If(x_loop.last):
            m.d.sync += need_y.eq(next_need)
    if not early:
        return there
    with m.If(issue):
        m.d.sync += begun.eq(~x_loop.steps)
        with m.If(y_loop.ends):
            m.d.sync += need_y.eq(first)
    known = Signal(name="arrived")
    m.d.sync += known.eq(there)
    return begun | known


def least(a: Value, b: Value) -> Value:
    """The smaller of two."""
    return Mux(a < b, a, b)
