"""The token-time model's inner loop: the cycle in which every beat of every stream is taken.

A beat is taken in the first cycle in which its source offers it, its reader has room for it and the
beat before is gone; and both sides only ever wait for beats taken before. So the time of a beat is
the largest of a few earlier times, each plus a constant, and nothing else happens: no clock is
simulated. All numbers are exact.

Each side of a stream says its times as far ahead as it knows them, and the one that comes second
finds the larger. So a cell that is looked at goes on for as many beats as there are.

All cells live in one flat array, a row of numbers each: constants first, then the state of those
that walk, then one group of numbers per level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.hdl.select import DROP, FILL
from intaglio.hdl.select import PASS as PASS_ON
from intaglio.sim.compiled import jit

Numbers = NDArray[np.int64]

SOURCE, SINK, FIFO, FORK, REPACK, TAKE, GIVE, PAD, CROP, STEPS, PIPE, WINDOW, UPSAMPLE = range(13)
RESAMPLE = 13
PICKING = (PAD, CROP, STEPS)  # beats pass, or are dropped, or are made here
LOOKING = (FORK, TAKE, GIVE, *PICKING)  # take a beat when others do: they look at what is offered
WALKING = (WINDOW, UPSAMPLE, RESAMPLE)  # over a line buffer

# Every row: its kind, and the wires of its ports, INS inputs first.
KIND, INS, OUTS, WIRES = 0, 1, 2, 3
PORTS = 64
BASE = WIRES + PORTS

# Constants. FIFO, PIPE and WINDOW end in a queue: its places, and its latency of 1 or 2.
PLACES, LATENCY, DELAY = BASE, BASE + 1, BASE + 2  # DELAY: cycles from a beat's start to its push
# A pipeline of two inputs: of so many beats of the first, the first ones have one of the second.
TOGETHER, FRESH = BASE + 3, BASE + 4
BEATS, PERIOD, START = BASE, BASE + 1, BASE + 2  # SOURCE, SINK: beats a frame
FULL, LANES_IN, LANES_OUT, PER_PIXEL, REST = range(BASE, BASE + 5)  # REPACK
TURNS = BASE  # TAKE, GIVE: the beats of each turn are in its level's group; STEPS: of a pixel
WORDS, TOP, LEFT, INNER_H, INNER_W, OUTER_H, OUTER_W = range(BASE, BASE + 7)  # PAD, CROP
STEP_Y, STEP_X = BASE + 7, BASE + 8  # the same: of the rows and columns that lie within
ROWS, IN_WORDS, PASS, PASSES, PASS_BEATS, LAST_BEATS, LEVELS = range(BASE + 3, BASE + 10)  # WINDOW
SPAN_Y, SPAN_X, STRIDE_Y, STRIDE_X, ABOVE, BEFORE = range(BASE + 10, BASE + 16)
TAPS = BASE + 12  # RESAMPLE: where the places of its rows, then of its columns, begin in `rows`
FIRST_ROW = BASE + 16  # WINDOW: where its rows begin in `rows`
ROW_COUNT = BASE + 17
PIXELS = BASE + 18  # WINDOW: made at once; LAST_BEATS are of each
# WINDOW: cycles more from the beat that a pixel waits for, and from room in the queue, to an issue.
ARRIVES, GOES = BASE + 29, BASE + 30

# State.
TURN, DONE, OFFERED = range(BASE + 19, BASE + 22)  # TAKE, GIVE; PICKING: DONE counts steps
# REPACK: input beats of which room was said and which were used, within their pixel; lanes stored
# by the former beyond FULL, and output beats that must be gone for that; the latter, and lanes.
BEAT_IN, BEAT_OUT, STORED, GONE, USED, GIVEN = range(BASE + 19, BASE + 25)
PASS_NUMBER, OUT_X, OUT_Y, READ_LEVEL = range(BASE + 19, BASE + 23)  # WINDOW: the walk
FRAME_ROW, IN_ROW, LIMIT = range(BASE + 23, BASE + 26)  # rows of all frames; those let in
NEEDED = BASE + 26  # beats that the output pixel waits for
ISSUED, LAST_PUSH = BASE + 27, BASE + 28  # the last issue; the last push

# Of each level: sizes of the frame walked over and of the output. TAKE, GIVE: beats of a turn.
LEVEL_DATA = BASE + 31
HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH = range(4)
SIZE, GROUP = 0, 4

# Of each wire. OFFERS, ROOMS: the beats of which its source, its reader has said a time. `times`
# has the larger where both have, and what the one has said where the other has not.
SOURCE_OF, READER_OF, BEGIN, TOTAL, OFFERS, ROOMS, LOOKED_AT = range(7)


@jit
def wake(cell: int, stack: Numbers, state: Numbers) -> None:
    """Have the cell looked at again; `state` is the height of the stack, then a flag a cell."""
    if cell >= 0 and state[1 + cell] == 0:
        state[1 + cell] = 1
        stack[state[0]] = cell
        state[0] += 1


@jit
def taken(w: int, wires: Numbers) -> int:
    """Beats of wire `w` whose times are known."""
    return int(min(wires[w, OFFERS], wires[w, ROOMS]))


@jit
def after(w: int, n: int, wires: Numbers, times: Numbers) -> int:
    """The cycle after beat `n` of wire `w`, which has been taken; 0 for a beat before the first."""
    return int(times[wires[w, BEGIN] + n] + 1) if n >= 0 else 0


@jit
def say(w: int, side: int, time: int, wires: Numbers, times: Numbers) -> bool:
    """The next beat of wire `w` is offered, or has room, from cycle `time` on. Whether it is taken
    with that."""
    n = wires[w, side]
    at = wires[w, BEGIN] + n
    wires[w, side] = n + 1
    if n >= wires[w, OFFERS + ROOMS - side]:
        times[at] = time
        return False
    before = times[at - 1] + 1 if n > 0 else 0
    times[at] = max(max(time, times[at]), before)
    return True


@jit
def say_all(w: int, side: int, until: int, time: int, wires: Numbers, times: Numbers) -> bool:
    """`say`, of all beats of wire `w` before `until`, the same time. Whether any is taken."""
    n, begin = wires[w, side], wires[w, BEGIN]
    both = min(until, wires[w, OFFERS + ROOMS - side])
    before = times[begin + n - 1] + 1 if n > 0 else 0
    for k in range(begin + n, begin + both):
        before = max(max(time, times[k]), before) + 1
        times[k] = before - 1
    for k in range(begin + max(n, both), begin + until):
        times[k] = time
    wires[w, side] = max(n, until)
    return bool(n < both)


@jit
def say_behind(
    w: int, side: int, until: int, origin: int, delay: int, wires: Numbers, times: Numbers
) -> bool:
    """The same, of beat n a time `delay` cycles after that which stands at `origin` + n."""
    n, begin = wires[w, side], wires[w, BEGIN]
    both = min(until, wires[w, OFFERS + ROOMS - side])
    before = times[begin + n - 1] + 1 if n > 0 else 0
    for k in range(n, both):
        before = max(max(times[origin + k] + delay, times[begin + k]), before) + 1
        times[begin + k] = before - 1
    for k in range(max(n, both), until):
        times[begin + k] = times[origin + k] + delay
    wires[w, side] = max(n, until)
    return bool(n < both)


@jit
def give(o: int, moved: bool, wires: Numbers, stack: Numbers, state: Numbers) -> None:
    """Wire `o` was offered something, of which some was taken if `moved`."""
    if moved or wires[o, LOOKED_AT] != 0:
        wake(wires[o, READER_OF], stack, state)


@jit
def step_queue(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A queue (see `hdl.fifo.Fifo`), or a pipeline that ends in one."""
    a, o, places = m[b + WIRES], m[b + WIRES + 1], m[b + PLACES]
    delay = m[b + DELAY] + m[b + LATENCY]
    while True:
        moved = False
        gone, n = taken(o, wires), wires[a, ROOMS]
        until = min(gone + places, wires[a, TOTAL])
        if n < until:
            early = min(until, places)
            if n < early:
                moved = say_all(a, ROOMS, early, 0, wires, times)
            if early < until:
                origin = wires[o, BEGIN] - places
                moved |= say_behind(a, ROOMS, until, origin, 1, wires, times)
            if moved:
                wake(wires[a, SOURCE_OF], stack, state)
        until = taken(a, wires)
        moved = False
        if wires[o, OFFERS] < until:
            moved = say_behind(o, OFFERS, until, wires[a, BEGIN], delay, wires, times)
            give(o, moved, wires, stack, state)
        if not moved:
            return


@jit
def full(m: Numbers, b: int, wires: Numbers) -> bool:
    """Whether every place of a queue is taken."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    return bool(taken(a, wires) - taken(o, wires) >= m[b + PLACES])


@jit
def step_join(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A pipeline of two inputs: each has room when the other has a beat. A second input of fewer
    beats is waited for only where one is due."""
    a, c, o = m[b + WIRES], m[b + WIRES + 1], m[b + WIRES + 2]
    delay, first = m[b + DELAY] + m[b + LATENCY], wires[a, ROOMS]
    n, end = first, wires[a, OFFERS]
    while n < end and n - m[b + PLACES] < taken(o, wires):
        k, fresh = wires[c, ROOMS], n % m[b + TOGETHER] < m[b + FRESH]
        if fresh and k >= wires[c, OFFERS]:
            break
        room = max(after(o, n - m[b + PLACES], wires, times), after(a, n - 1, wires, times))
        room = max(room, times[wires[a, BEGIN] + n])
        if fresh:
            room = max(room, times[wires[c, BEGIN] + k])
            say(c, ROOMS, room, wires, times)
        say(a, ROOMS, room, wires, times)
        give(o, say(o, OFFERS, room + delay, wires, times), wires, stack, state)
        n += 1
    if n > first:
        wake(wires[a, SOURCE_OF], stack, state)
        wake(wires[c, SOURCE_OF], stack, state)


@jit
def step_fork(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A fork: its input is taken when the last of its readers has taken the beat."""
    a = m[b + WIRES]
    n = wires[a, ROOMS]
    while n < wires[a, OFFERS]:
        offer = max(times[wires[a, BEGIN] + n], after(a, n - 1, wires, times))
        latest, all_have = 0, True
        for p in range(m[b + OUTS]):
            o = m[b + WIRES + 1 + p]
            if wires[o, OFFERS] == n:
                give(o, say(o, OFFERS, offer, wires, times), wires, stack, state)
            if taken(o, wires) > n:
                latest = max(latest, times[wires[o, BEGIN] + n])
            else:
                all_have = False
        if not all_have:
            return
        say(a, ROOMS, latest, wires, times)
        wake(wires[a, SOURCE_OF], stack, state)
        n += 1


@jit
def step_turns(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """Several inputs in turn to one output, or one input to several outputs, without a register."""
    taking = m[b + KIND] == TAKE
    while True:
        turn = m[b + TURN]
        a = m[b + WIRES + (turn if taking else 0)]
        o = m[b + WIRES + m[b + INS] + (0 if taking else turn)]
        n = wires[a, ROOMS]
        if m[b + OFFERED]:
            if taken(o, wires) < wires[o, OFFERS]:
                return
            m[b + OFFERED] = 0
            m[b + DONE] += 1
            if m[b + DONE] == m[b + LEVEL_DATA + GROUP * turn + SIZE]:
                m[b + DONE] = 0
                m[b + TURN] = (turn + 1) % m[b + TURNS]
            say(a, ROOMS, times[wires[o, BEGIN] + wires[o, OFFERS] - 1], wires, times)
            wake(wires[a, SOURCE_OF], stack, state)
        else:
            if wires[a, OFFERS] <= n or wires[o, OFFERS] == wires[o, TOTAL]:
                return
            offer = max(times[wires[a, BEGIN] + n], after(a, n - 1, wires, times))
            m[b + OFFERED] = 1
            give(o, say(o, OFFERS, offer, wires, times), wires, stack, state)


@jit
def inside(m: Numbers, b: int, beat: int) -> bool:
    """Whether beat `beat` of the larger frame of a border or a crop lies within the smaller one."""
    pixel = beat // m[b + WORDS] % (m[b + OUTER_H] * m[b + OUTER_W])
    y, x = pixel // m[b + OUTER_W] - m[b + TOP], pixel % m[b + OUTER_W] - m[b + LEFT]
    within = 0 <= y < m[b + INNER_H] and 0 <= x < m[b + INNER_W]
    return bool(within and y % m[b + STEP_Y] == 0 and x % m[b + STEP_X] == 0)


@jit
def action(m: Numbers, b: int, step: int) -> int:
    """What happens at a step: see `hdl.select`."""
    kind = m[b + KIND]
    if kind == STEPS:
        return int(m[b + LEVEL_DATA + step % m[b + TURNS]])
    if inside(m, b, step):
        return PASS_ON
    return FILL if kind == PAD else DROP


@jit
def step_pick(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """Beats that pass, are dropped or are made, without a register: a step is over when its beat is
    taken, and the next may be in the cycle after."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    while True:
        act, n, k = action(m, b, m[b + DONE]), wires[o, OFFERS], wires[a, ROOMS]
        if m[b + OFFERED]:
            if taken(a, wires) < k if act == DROP else taken(o, wires) < n:
                return
            m[b + OFFERED] = 0
            m[b + DONE] += 1
            if act == PASS_ON:
                say(a, ROOMS, times[wires[o, BEGIN] + n - 1], wires, times)
                wake(wires[a, SOURCE_OF], stack, state)
            continue
        ready = max(after(a, k - 1, wires, times), after(o, n - 1, wires, times))
        if act == DROP:
            if k == wires[a, TOTAL]:
                return
            m[b + OFFERED] = 1
            if say(a, ROOMS, ready, wires, times):
                wake(wires[a, SOURCE_OF], stack, state)
        else:
            if n == wires[o, TOTAL] or (wires[a, OFFERS] <= k and act == PASS_ON):
                return
            if act == PASS_ON:
                ready = max(ready, times[wires[a, BEGIN] + k])
            m[b + OFFERED] = 1
            give(o, say(o, OFFERS, ready, wires, times), wires, stack, state)


@jit
def next_lanes(m: Numbers, b: int, beat: int) -> int:
    """Lanes that count of an input beat, whose number within its pixel goes on by one."""
    m[b + beat] += 1
    if m[b + beat] < m[b + PER_PIXEL]:
        return int(m[b + LANES_IN])
    m[b + beat] = 0
    return int(m[b + REST])


@jit
def step_repack(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """Another number of lanes; see `hdl.repack.Repack`."""
    a, o, lanes = m[b + WIRES], m[b + WIRES + 1], m[b + LANES_OUT]
    moved_in = moved_out = True
    while moved_in or moved_out:
        moved_in = moved_out = False
        while wires[a, ROOMS] < wires[a, TOTAL]:
            while m[b + GONE] * lanes < m[b + STORED]:
                m[b + GONE] += 1
            if taken(o, wires) < m[b + GONE]:
                break
            moved_in |= say(a, ROOMS, after(o, m[b + GONE] - 1, wires, times), wires, times)
            m[b + STORED] += next_lanes(m, b, BEAT_IN)
        while wires[o, OFFERS] < wires[o, TOTAL]:
            while m[b + GIVEN] < (wires[o, OFFERS] + 1) * lanes:
                m[b + GIVEN] += next_lanes(m, b, BEAT_OUT)
                m[b + USED] += 1
            if taken(a, wires) < m[b + USED]:
                break
            moved = say(o, OFFERS, after(a, m[b + USED] - 1, wires, times), wires, times)
            give(o, moved, wires, stack, state)
            moved_out |= moved
        if moved_in:
            wake(wires[a, SOURCE_OF], stack, state)


@jit
def aim(m: Numbers, b: int, time: int, rows: Numbers) -> None:
    """Set what output pixel (OUT_Y, OUT_X) waits for, and let rows in from cycle `time` on."""
    s = b + LEVEL_DATA + GROUP * m[b + READ_LEVEL]
    tall, wide = m[b + SPAN_Y], m[b + SPAN_X]
    if m[b + KIND] == UPSAMPLE:
        y = m[b + OUT_Y] * m[s + HEIGHT] // m[s + OUT_HEIGHT]
        x = m[b + OUT_X] * m[s + WIDTH] // m[s + OUT_WIDTH]
    elif m[b + KIND] == RESAMPLE:
        at = m[b + TAPS]
        column = at + m[s + OUT_HEIGHT] + m[b + OUT_X]
        y, x = rows[at + m[b + OUT_Y], 0], rows[column, 0]
        tall = rows[at + m[b + OUT_Y], 1] - y + 1
        wide = rows[column, 1] - x + 1
    else:
        y = m[b + OUT_Y] * m[b + STRIDE_Y] - m[b + ABOVE]
        x = m[b + OUT_X] * m[b + STRIDE_X] - m[b + BEFORE]
    first, frame, count = m[b + FIRST_ROW], m[b + FRAME_ROW], m[b + ROW_COUNT]
    row = frame + min(y + tall, m[s + HEIGHT]) - 1
    if row < 0 or row >= count:
        m[b + NEEDED] = 0 if row < 0 else 1 << 60
    else:  # of a row, which may be one of the frame before, at most all there is
        columns = max(0, x + wide) * m[b + IN_WORDS]
        start = rows[first + row, 0]
        m[b + NEEDED] = min(start + columns, rows[first + row + 1, 0])
    limit = min(frame + max(0, min(y, m[s + HEIGHT])) + m[b + ROWS], count)
    while m[b + LIMIT] < limit:
        rows[first + m[b + LIMIT], 1] = time
        m[b + LIMIT] += 1


@jit
def next_pixel(m: Numbers, b: int, time: int, rows: Numbers) -> None:
    """The walk goes to the next output pixel, row, or frame; `time` is the cycle after."""
    s = b + LEVEL_DATA + GROUP * m[b + READ_LEVEL]
    m[b + OUT_X] += m[b + PIXELS]
    if m[b + OUT_X] >= m[s + OUT_WIDTH]:
        m[b + OUT_X] = 0
        m[b + OUT_Y] += 1
        if m[b + OUT_Y] == m[s + OUT_HEIGHT]:
            m[b + OUT_Y] = 0
            m[b + FRAME_ROW] += m[s + HEIGHT]
            m[b + READ_LEVEL] = (m[b + READ_LEVEL] + 1) % m[b + LEVELS]
    aim(m, b, time + 1 + (m[b + PIXELS] > 1), rows)  # rows are let in by a register


@jit
def step_window(
    m: Numbers, b: int, wires: Numbers, times: Numbers, rows: Numbers, stack: Numbers,
    state: Numbers,
) -> None:  # fmt: skip
    """A line buffer, its window walk and the pipeline behind; see `hdl.window`."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    while True:
        moved = False
        while m[b + IN_ROW] < m[b + LIMIT]:
            row = m[b + FIRST_ROW] + m[b + IN_ROW]
            until, time = rows[row + 1, 0], rows[row, 1]
            moved |= say_all(a, ROOMS, until, time, wires, times)
            m[b + IN_ROW] += 1
        if moved:
            wake(wires[a, SOURCE_OF], stack, state)
        while wires[o, OFFERS] < wires[o, TOTAL] and issue(m, b, wires, times, rows, stack, state):
            pass
        if m[b + IN_ROW] == m[b + LIMIT]:
            return


@jit
def issue(
    m: Numbers, b: int, wires: Numbers, times: Numbers, rows: Numbers, stack: Numbers,
    state: Numbers,
) -> bool:  # fmt: skip
    """One pass of the walk, if what it waits for has been taken."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    start = m[b + ISSUED] + 1
    if m[b + PASS_NUMBER] == 0:
        if m[b + NEEDED] > taken(a, wires):
            return False
        start = max(start, after(a, m[b + NEEDED] - 1, wires, times) + m[b + ARRIVES])
    leaves = wires[o, OFFERS] + m[b + PASS_BEATS] - m[b + PLACES] - 1
    if leaves >= taken(o, wires):
        return False
    last = max(start + m[b + PASS] - 1, after(o, leaves, wires, times) + m[b + GOES])
    m[b + ISSUED] = last
    final = m[b + PASS_NUMBER] == m[b + PASSES] - 1
    push, moved = last + m[b + DELAY], False
    width = m[b + LEVEL_DATA + GROUP * m[b + READ_LEVEL] + OUT_WIDTH]
    pixels = min(m[b + PIXELS], width - m[b + OUT_X])
    for _ in range(pixels * m[b + LAST_BEATS] if final else m[b + PASS_BEATS]):
        push = max(push, m[b + LAST_PUSH] + 1)
        m[b + LAST_PUSH] = push
        moved |= say(o, OFFERS, push + m[b + LATENCY], wires, times)
    give(o, moved, wires, stack, state)
    m[b + PASS_NUMBER] = 0 if final else m[b + PASS_NUMBER] + 1
    if final:
        next_pixel(m, b, last + 1, rows)
    return True


@jit
def step_source(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pauses: Numbers, stack: Numbers,
    state: Numbers,
) -> None:  # fmt: skip
    """The input: a beat whenever the last one is taken, but not before it is due."""
    o = m[b + WIRES]
    while wires[o, OFFERS] < wires[o, TOTAL]:
        n = wires[o, OFFERS]
        time = m[b + START] - (-n * m[b + PERIOD] // m[b + BEATS])
        if len(pauses) > 0:
            if taken(o, wires) < n:
                return
            time = max(time, after(o, n - 1, wires, times)) + pauses[wires[o, BEGIN] + n]
        give(o, say(o, OFFERS, time, wires, times), wires, stack, state)


@jit
def step_sink(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pauses: Numbers, stack: Numbers,
    state: Numbers,
) -> None:  # fmt: skip
    """An output: takes whatever is offered."""
    a = m[b + WIRES]
    while wires[a, ROOMS] < wires[a, TOTAL]:
        n, time = wires[a, ROOMS], 0
        if len(pauses) > 0:
            if taken(a, wires) < n:
                return
            time = after(a, n - 1, wires, times) + pauses[wires[a, BEGIN] + n]
        if say(a, ROOMS, time, wires, times):
            wake(wires[a, SOURCE_OF], stack, state)


@jit
def step(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pauses: Numbers, rows: Numbers,
    stack: Numbers, state: Numbers,
) -> None:  # fmt: skip
    """Everything that the cell at `b` can tell by now."""
    k = m[b + KIND]
    if k in WALKING:
        step_window(m, b, wires, times, rows, stack, state)
    elif k == REPACK:
        step_repack(m, b, wires, times, stack, state)
    elif k in (FIFO, PIPE):
        if m[b + INS] == 2:
            step_join(m, b, wires, times, stack, state)
        else:
            step_queue(m, b, wires, times, stack, state)
    elif k == FORK:
        step_fork(m, b, wires, times, stack, state)
    elif k in (TAKE, GIVE):
        step_turns(m, b, wires, times, stack, state)
    elif k in PICKING:
        step_pick(m, b, wires, times, stack, state)
    elif k == SOURCE:
        step_source(m, b, wires, times, pauses, stack, state)
    else:
        step_sink(m, b, wires, times, pauses, stack, state)


@jit
def run(p: Any, frames: int, growing: int, _: int) -> int:
    """The time of every beat, until no cell can go on. Returns the number of whole frames that
    all sinks have taken: fewer than `frames` after a deadlock.

    p[0]    m: the cells' numbers, and how many each has; wires (wires, 7), of which OFFERS and
            ROOMS are 0; times, as many zeros as there are beats, filled with the cycle in which
            each is taken; pauses, none or as many: extra cycles before sources and sinks move a
            beat; rows (rows of all windows, 2): beats before the row, and from when on it may come
            in; stack and state, as many zeros as there are cells, and one more.
    growing the cell of a queue that gets another place wherever nothing else can go on, or -1: it
            ends as shallow as it can be without a deadlock, for that depends on no time.
    """
    m, row, wires, times, pauses, rows, stack, state = p[0]
    cells = len(m) // row
    for cell in range(cells):
        if m[cell * row + KIND] in WALKING:
            aim(m, cell * row, 0, rows)
        wake(cell, stack, state)
    for w in range(len(wires)):
        if wires[w, READER_OF] < 0:
            wires[w, ROOMS] = wires[w, TOTAL]
    while True:
        while state[0] > 0:
            state[0] -= 1
            cell = stack[state[0]]
            state[1 + cell] = 0
            step(m, cell * row, wires, times, pauses, rows, stack, state)
        done = frames
        for cell in range(cells):
            if m[cell * row + KIND] == SINK:
                beats = taken(m[cell * row + WIRES], wires)
                done = min(done, beats // m[cell * row + BEATS])
        if done == frames or growing < 0 or not full(m, growing * row, wires):
            return done
        m[growing * row + PLACES] += 1
        wake(growing, stack, state)


@jit
def fullest(p: Any, _a: int, _b: int, _c: int) -> int:
    """The most beats that were in a queue at once, of its cycles of entry and of leaving, both
    ascending."""
    entered, left = p[0]
    most, gone = 0, 0
    for n in range(len(entered)):
        while gone < len(left) and left[gone] <= entered[n]:
            gone += 1
        most = max(most, n + 1 - gone)
    return most
