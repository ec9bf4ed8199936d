"""The token-time model's inner loop: the cycle in which every beat of every stream is taken.

A beat is taken in the first cycle in which its source offers it and its reader has room for it, and
both only ever wait for beats taken before. So the time of a beat is the largest of a few earlier
times, each plus a constant, and nothing else happens: no clock is simulated. All numbers are exact.

All cells live in one flat array, a row of numbers each: constants first, then the state of those
that walk, then one group of numbers per level.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

SOURCE, SINK, FIFO, FORK, REPACK, TAKE, GIVE, PAD, PIPE, WINDOW, UPSAMPLE = range(11)

# Every row: its kind, and the wires of its ports, INS inputs first.
KIND, INS, OUTS, WIRES = 0, 1, 2, 3
PORTS = 64
BASE = WIRES + PORTS

# Constants. FIFO, PIPE and WINDOW end in a queue: its places, and its latency of 1 or 2.
PLACES, LATENCY, DELAY = BASE, BASE + 1, BASE + 2  # DELAY: cycles from a beat's start to its push
BEATS, PERIOD, START = BASE, BASE + 1, BASE + 2  # SOURCE, SINK: beats a frame
FULL, LANES_IN, LANES_OUT, PER_PIXEL, REST = range(BASE, BASE + 5)  # REPACK
TURNS = BASE  # TAKE, GIVE: the beats of each turn are in its level's group
WORDS, TOP, LEFT, INNER_H, INNER_W, OUTER_H, OUTER_W = range(BASE, BASE + 7)  # PAD
ROWS, IN_WORDS, PASS, PASSES, PASS_BEATS, LAST_BEATS, LEVELS = range(BASE + 3, BASE + 10)  # WINDOW
SPAN_Y, SPAN_X, STRIDE_Y, STRIDE_X, ABOVE, BEFORE = range(BASE + 10, BASE + 16)
FIRST_ROW = BASE + 16  # WINDOW: where its rows begin in `row_start` and `row_free`
ROW_COUNT = BASE + 17
PIXELS = BASE + 18  # WINDOW: made at once; LAST_BEATS are of each

# State.
TURN, DONE, OFFERED = range(BASE + 19, BASE + 22)  # TAKE, GIVE; PAD has OFFERED
PASS_NUMBER, OUT_X, OUT_Y, READ_LEVEL = range(BASE + 19, BASE + 23)  # WINDOW: the walk
FRAME_ROW, IN_ROW, LIMIT = range(BASE + 23, BASE + 26)  # rows of all frames; those let in
NEEDED = BASE + 26  # beats that the output pixel waits for
ISSUED, RESERVED = BASE + 27, BASE + 28  # last issue; output beats that have their place
LAST_PUSH = BASE + 29

# Of each level: sizes of the frame walked over and of the output. TAKE, GIVE: beats of a turn.
LEVEL_DATA = BASE + 30
HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH = range(4)
SIZE, GROUP = 0, 4

# Of each wire.
SOURCE_OF, READER_OF, BEGIN, TOTAL, COUNT, OFFER, ROOM = range(7)
UNKNOWN = -1


@njit()
def wake(cell: int, stack: Numbers, state: Numbers) -> None:
    """Have the cell looked at again; `state` is the height of the stack, then a flag a cell."""
    if cell >= 0 and state[1 + cell] == 0:
        state[1 + cell] = 1
        stack[state[0]] = cell
        state[0] += 1


@njit()
def meet(w: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers) -> None:
    """The next beat of wire `w` is taken, once it is known when it is offered and has room."""
    if wires[w, READER_OF] < 0 and wires[w, OFFER] != UNKNOWN:
        wires[w, ROOM] = 0
    if wires[w, OFFER] != UNKNOWN and wires[w, ROOM] != UNKNOWN:
        times[wires[w, BEGIN] + wires[w, COUNT]] = max(wires[w, OFFER], wires[w, ROOM])
        wires[w, COUNT] += 1
        wires[w, OFFER] = wires[w, ROOM] = UNKNOWN
        wake(wires[w, SOURCE_OF], stack, state)
        wake(wires[w, READER_OF], stack, state)
    elif wires[w, OFFER] != UNKNOWN:
        wake(wires[w, READER_OF], stack, state)


@njit()
def after(w: int, n: int, wires: Numbers, times: Numbers) -> int:
    """The cycle after beat `n` of wire `w`, which has been taken; 0 for a beat before the first."""
    return int(times[wires[w, BEGIN] + n] + 1) if n >= 0 else 0


@njit()
def wants_offer(w: int, wires: Numbers) -> bool:
    """Whether the next beat of wire `w` is still to be offered."""
    return bool(wires[w, OFFER] == UNKNOWN and wires[w, COUNT] < wires[w, TOTAL])


@njit()
def wants_room(w: int, wires: Numbers) -> bool:
    """Whether it is open when the next beat of wire `w` has room."""
    return bool(wires[w, ROOM] == UNKNOWN and wires[w, COUNT] < wires[w, TOTAL])


@njit()
def offer_queued(
    m: Numbers, b: int, o: int, push: int, wires: Numbers, times: Numbers, stack: Numbers,
    state: Numbers,
) -> None:  # fmt: skip
    """The next beat of the queue at `o`, pushed in cycle `push`; see `hdl.fifo.Fifo`."""
    wires[o, OFFER] = max(push + m[b + LATENCY], after(o, wires[o, COUNT] - 1, wires, times))
    meet(o, wires, times, stack, state)


@njit()
def queue_room(m: Numbers, b: int, a: int, o: int, wires: Numbers, times: Numbers) -> int:
    """When the queue between `a` and `o` has a place for the next beat of `a`; or UNKNOWN."""
    n = wires[a, COUNT]
    leaves = n - m[b + PLACES]
    if leaves >= wires[o, COUNT]:
        return UNKNOWN
    return max(after(a, n - 1, wires, times), after(o, leaves, wires, times))


@njit()
def step_fifo(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A queue."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    if wants_room(a, wires):
        room = queue_room(m, b, a, o, wires, times)
        if room != UNKNOWN:
            wires[a, ROOM] = room
            meet(a, wires, times, stack, state)
    if wants_offer(o, wires) and wires[o, COUNT] < wires[a, COUNT]:
        push = times[wires[a, BEGIN] + wires[o, COUNT]]
        offer_queued(m, b, o, push, wires, times, stack, state)


@njit()
def full(m: Numbers, b: int, wires: Numbers) -> bool:
    """Whether every place of a queue is taken."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    return bool(wires[a, COUNT] - wires[o, COUNT] >= m[b + PLACES])


@njit()
def step_pipe(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A pipeline with an outlet. Of two inputs each has room when the other has a beat."""
    ins = m[b + INS]
    a, o = m[b + WIRES], m[b + WIRES + ins]
    if wants_room(a, wires):
        room = queue_room(m, b, a, o, wires, times)
        if ins == 2 and room != UNKNOWN:
            other = m[b + WIRES + 1]
            if wires[a, OFFER] == UNKNOWN or wires[other, OFFER] == UNKNOWN:
                room = UNKNOWN
            else:
                wires[other, ROOM] = max(room, wires[a, OFFER])
                room = max(room, wires[other, OFFER])
                meet(other, wires, times, stack, state)
        if room != UNKNOWN:
            wires[a, ROOM] = room
            meet(a, wires, times, stack, state)
    if wants_offer(o, wires) and wires[o, COUNT] < wires[a, COUNT]:
        push = times[wires[a, BEGIN] + wires[o, COUNT]] + m[b + DELAY]
        offer_queued(m, b, o, push, wires, times, stack, state)


@njit()
def step_fork(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A fork: its input is taken when the last of its readers has taken the beat."""
    a = m[b + WIRES]
    if wires[a, OFFER] == UNKNOWN:
        return
    n, latest, all_have = wires[a, COUNT], 0, True
    for p in range(m[b + OUTS]):
        o = m[b + WIRES + 1 + p]
        if wires[o, COUNT] == n and wires[o, OFFER] == UNKNOWN:
            wires[o, OFFER] = wires[a, OFFER]
            meet(o, wires, times, stack, state)
        if wires[o, COUNT] > n:
            latest = max(latest, times[wires[o, BEGIN] + n])
        else:
            all_have = False
    if all_have:
        wires[a, ROOM] = latest
        meet(a, wires, times, stack, state)


@njit()
def step_turns(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """Several inputs in turn to one output, or one input to several outputs, without a register."""
    taking = m[b + KIND] == TAKE
    while True:
        turn = m[b + TURN]
        a = m[b + WIRES + (turn if taking else 0)]
        o = m[b + WIRES + m[b + INS] + (0 if taking else turn)]
        if m[b + OFFERED]:
            if wires[o, OFFER] != UNKNOWN:
                return
            m[b + OFFERED] = 0
            m[b + DONE] += 1
            if m[b + DONE] == m[b + LEVEL_DATA + GROUP * turn + SIZE]:
                m[b + DONE] = 0
                m[b + TURN] = (turn + 1) % m[b + TURNS]
            wires[a, ROOM] = times[wires[o, BEGIN] + wires[o, COUNT] - 1]
            meet(a, wires, times, stack, state)
        else:
            if wires[a, OFFER] == UNKNOWN or not wants_offer(o, wires):
                return
            wires[o, OFFER] = max(wires[a, OFFER], after(o, wires[o, COUNT] - 1, wires, times))
            m[b + OFFERED] = 1
            meet(o, wires, times, stack, state)


@njit()
def inside(m: Numbers, b: int, beat: int) -> bool:
    """Whether output beat `beat` of a border block lies within its input frame."""
    pixel = beat // m[b + WORDS] % (m[b + OUTER_H] * m[b + OUTER_W])
    y, x = pixel // m[b + OUTER_W] - m[b + TOP], pixel % m[b + OUTER_W] - m[b + LEFT]
    return bool(0 <= y < m[b + INNER_H] and 0 <= x < m[b + INNER_W])


@njit()
def step_pad(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """A border: beats of its own, and those of its input without a register."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    while True:
        n = wires[o, COUNT]
        if m[b + OFFERED]:
            if wires[o, OFFER] != UNKNOWN:
                return
            m[b + OFFERED] = 0
            if inside(m, b, n - 1):
                wires[a, ROOM] = times[wires[o, BEGIN] + n - 1]
                meet(a, wires, times, stack, state)
        else:
            own = n < wires[o, TOTAL] and not inside(m, b, n)
            if not wants_offer(o, wires) or (wires[a, OFFER] == UNKNOWN and not own):
                return
            follows = after(o, n - 1, wires, times)
            wires[o, OFFER] = follows if own else max(wires[a, OFFER], follows)
            m[b + OFFERED] = 1
            meet(o, wires, times, stack, state)


@njit()
def step_repack(
    m: Numbers, b: int, wires: Numbers, times: Numbers, stack: Numbers, state: Numbers
) -> None:
    """Another number of lanes; see `hdl.repack.Repack`."""
    a, o, lanes = m[b + WIRES], m[b + WIRES + 1], m[b + LANES_OUT]
    per_pixel, lanes_in = m[b + PER_PIXEL], m[b + LANES_IN]
    pixel = (per_pixel - 1) * lanes_in + m[b + REST]  # lanes that count, of a whole pixel
    while True:
        moved = False
        n = wires[a, COUNT]
        if wants_room(a, wires):
            stored = n // per_pixel * pixel + n % per_pixel * lanes_in - m[b + FULL]
            gone = max(0, -(-stored // lanes))  # beats that must have left
            if wires[o, COUNT] >= gone:
                room = after(a, n - 1, wires, times)
                wires[a, ROOM] = max(room, after(o, gone - 1, wires, times))
                meet(a, wires, times, stack, state)
                moved = wires[a, COUNT] > n
        k = wires[o, COUNT]
        if wants_offer(o, wires):
            need = (k + 1) * lanes
            whole = (need - 1) // pixel
            beats = min(-(-(need - whole * pixel) // lanes_in), per_pixel)
            last = whole * per_pixel + beats - 1  # the input beat that completes it
            if last < wires[a, COUNT]:
                offer = after(o, k - 1, wires, times)
                wires[o, OFFER] = max(offer, after(a, last, wires, times))
                meet(o, wires, times, stack, state)
                moved = moved or wires[o, COUNT] > k
        if not moved:
            return


@njit()
def aim(m: Numbers, b: int, time: int, rows: Numbers) -> None:
    """Set what output pixel (OUT_Y, OUT_X) waits for, and let rows in from cycle `time` on."""
    s = b + LEVEL_DATA + GROUP * m[b + READ_LEVEL]
    if m[b + KIND] == UPSAMPLE:
        y = m[b + OUT_Y] * m[s + HEIGHT] // m[s + OUT_HEIGHT]
        x = m[b + OUT_X] * m[s + WIDTH] // m[s + OUT_WIDTH]
    else:
        y = m[b + OUT_Y] * m[b + STRIDE_Y] - m[b + ABOVE]
        x = m[b + OUT_X] * m[b + STRIDE_X] - m[b + BEFORE]
    first, frame, count = m[b + FIRST_ROW], m[b + FRAME_ROW], m[b + ROW_COUNT]
    row = frame + min(y + m[b + SPAN_Y], m[s + HEIGHT]) - 1
    if row < 0 or row >= count:
        m[b + NEEDED] = 0 if row < 0 else 1 << 60
    else:  # of a row, which may be one of the frame before, at most all there is
        columns = max(0, x + m[b + SPAN_X]) * m[b + IN_WORDS]
        start = rows[first + row, 0]
        m[b + NEEDED] = min(start + columns, rows[first + row + 1, 0])
    limit = min(frame + max(0, min(y, m[s + HEIGHT])) + m[b + ROWS], count)
    while m[b + LIMIT] < limit:
        rows[first + m[b + LIMIT], 1] = time
        m[b + LIMIT] += 1


@njit()
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
    aim(m, b, time + (m[b + PIXELS] > 1), rows)


@njit()
def step_window(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pushes: Numbers, rows: Numbers,
    stack: Numbers, state: Numbers,
) -> None:  # fmt: skip
    """A line buffer, its window walk and the pipeline behind; see `hdl.window`."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    first = m[b + FIRST_ROW]
    while True:
        moved = False
        n = wires[a, COUNT]
        if wants_room(a, wires):
            while n >= rows[first + m[b + IN_ROW] + 1, 0]:
                m[b + IN_ROW] += 1
            if m[b + IN_ROW] < m[b + LIMIT]:
                room = after(a, n - 1, wires, times)
                wires[a, ROOM] = max(room, rows[first + m[b + IN_ROW], 1])
                meet(a, wires, times, stack, state)
                moved = wires[a, COUNT] > n
        if m[b + RESERVED] < wires[o, TOTAL] and issue(m, b, wires, times, pushes, rows):
            moved = True
        k = wires[o, COUNT]
        if wants_offer(o, wires) and k < m[b + RESERVED]:
            offer_queued(m, b, o, pushes[wires[o, BEGIN] + k], wires, times, stack, state)
            moved = moved or wires[o, COUNT] > k
        if not moved:
            return


@njit()
def issue(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pushes: Numbers, rows: Numbers
) -> bool:
    """One pass of the walk, if what it waits for has been taken."""
    a, o = m[b + WIRES], m[b + WIRES + 1]
    start = m[b + ISSUED] + 1
    if m[b + PASS_NUMBER] == 0:
        if m[b + NEEDED] > wires[a, COUNT]:
            return False
        start = max(start, after(a, m[b + NEEDED] - 1, wires, times))
    leaves = m[b + RESERVED] + m[b + PASS_BEATS] - m[b + PLACES] - 1
    if leaves >= wires[o, COUNT]:
        return False
    last = max(start + m[b + PASS] - 1, after(o, leaves, wires, times))
    m[b + ISSUED] = last
    final = m[b + PASS_NUMBER] == m[b + PASSES] - 1
    push = last + m[b + DELAY]
    width = m[b + LEVEL_DATA + GROUP * m[b + READ_LEVEL] + OUT_WIDTH]
    pixels = min(m[b + PIXELS], width - m[b + OUT_X])
    for _ in range(pixels * m[b + LAST_BEATS] if final else m[b + PASS_BEATS]):
        push = max(push, m[b + LAST_PUSH] + 1)
        pushes[wires[o, BEGIN] + m[b + RESERVED]] = push
        m[b + LAST_PUSH] = push
        m[b + RESERVED] += 1
    m[b + PASS_NUMBER] = 0 if final else m[b + PASS_NUMBER] + 1
    if final:
        next_pixel(m, b, last + 1, rows)
    return True


@njit()
def step_source(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pauses: Numbers, stack: Numbers,
    state: Numbers,
) -> None:  # fmt: skip
    """The input: a beat whenever the last one is taken, but not before it is due."""
    o = m[b + WIRES]
    while wants_offer(o, wires):
        n = wires[o, COUNT]
        due = m[b + START] - (-n * m[b + PERIOD] // m[b + BEATS])
        pause = pauses[wires[o, BEGIN] + n] if len(pauses) else 0
        wires[o, OFFER] = max(due, after(o, n - 1, wires, times)) + pause
        meet(o, wires, times, stack, state)


@njit()
def step_sink(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pauses: Numbers, stack: Numbers,
    state: Numbers,
) -> None:  # fmt: skip
    """An output: takes whatever is offered."""
    a = m[b + WIRES]
    while wants_room(a, wires):
        n = wires[a, COUNT]
        pause = pauses[wires[a, BEGIN] + n] if len(pauses) else 0
        wires[a, ROOM] = after(a, n - 1, wires, times) + pause
        meet(a, wires, times, stack, state)


@njit()
def step(
    m: Numbers, b: int, wires: Numbers, times: Numbers, pushes: Numbers, pauses: Numbers,
    rows: Numbers, stack: Numbers, state: Numbers,
) -> None:  # fmt: skip
    """Everything that the cell at `b` can tell by now."""
    k = m[b + KIND]
    if k in (WINDOW, UPSAMPLE):
        step_window(m, b, wires, times, pushes, rows, stack, state)
    elif k == FIFO:
        step_fifo(m, b, wires, times, stack, state)
    elif k == REPACK:
        step_repack(m, b, wires, times, stack, state)
    elif k == PIPE:
        step_pipe(m, b, wires, times, stack, state)
    elif k == FORK:
        step_fork(m, b, wires, times, stack, state)
    elif k in (TAKE, GIVE):
        step_turns(m, b, wires, times, stack, state)
    elif k == PAD:
        step_pad(m, b, wires, times, stack, state)
    elif k == SOURCE:
        step_source(m, b, wires, times, pauses, stack, state)
    else:
        step_sink(m, b, wires, times, pauses, stack, state)


@njit(nogil=True)
def run(
    m: Numbers, row: int, wires: Numbers, times: Numbers, pushes: Numbers, pauses: Numbers,
    rows: Numbers, frames: int, interval: int, growing: int,
) -> int:  # fmt: skip
    """The time of every beat, until no cell can go on. Returns the number of whole frames that
    all sinks have taken: fewer than `frames` after a deadlock, or after one later than `interval`
    behind the one before (0: any distance).

    row     numbers of a cell.
    wires   (wires, 7): source and reader cell, where its beats begin in `times`, how many there
            are; then the state.
    times   filled with the cycle in which each beat is taken.
    pushes  of the same size: when it entered the queue of a WINDOW.
    pauses  empty, or of the same size: extra cycles before the sources and sinks move a beat.
    rows    (rows of all windows, 2): beats before the row; from when on it may come in.
    growing the cell of a queue that gets another place wherever nothing else can go on, or -1: it
            ends as shallow as it can be without a deadlock, for that depends on no time.
    """
    cells = len(m) // row
    stack, state = np.empty(cells, np.int64), np.zeros(1 + cells, np.int64)
    sinks = np.empty(cells, np.int64)
    count = 0
    for cell in range(cells):
        b = cell * row
        if m[b + KIND] in (WINDOW, UPSAMPLE):
            aim(m, b, 0, rows)
        elif m[b + KIND] == SINK:
            sinks[count] = b
            count += 1
        wake(cell, stack, state)
    done, before = 0, 0
    while True:
        if state[0] == 0:
            if done == frames or not (growing >= 0 and full(m, growing * row, wires)):
                return done
            m[growing * row + PLACES] += 1
            wake(growing, stack, state)
        state[0] -= 1
        cell = stack[state[0]]
        state[1 + cell] = 0
        b = cell * row
        step(m, b, wires, times, pushes, pauses, rows, stack, state)
        while m[b + KIND] == SINK and done < frames:
            end, whole = 0, True
            for n in range(count):
                w, beats = m[sinks[n] + WIRES], m[sinks[n] + BEATS] * (done + 1)
                whole = whole and wires[w, COUNT] >= beats
                if whole:
                    end = max(end, times[wires[w, BEGIN] + beats - 1])
            if not whole:
                break
            if interval > 0 and done > 0 and end - before > interval:
                return done
            done, before = done + 1, end


@njit(nogil=True)
def fullest(entered: Numbers, left: Numbers) -> int:
    """The most beats that were in a queue at once: both ascending, cycles of entry and leaving."""
    most, gone = 0, 0
    for n in range(len(entered)):
        while gone < len(left) and left[gone] <= entered[n]:
            gone += 1
        most = max(most, n + 1 - gone)
    return most
