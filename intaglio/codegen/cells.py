"""The cycle model's inner loop: the handshake registers of every component, clock by clock.

All cells live in one flat array, a row of numbers each: what never changes first, then the
registers, then one group of numbers per level. In every cycle valid flows forward and ready
backward through the cells that pass them on combinationally; then the clock ticks.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Cells = NDArray[np.int64]
Flags = NDArray[np.bool_]

SOURCE, SINK, FIFO, FORK, REPACK, TAKE, GIVE, PAD, PIPE, WINDOW, UPSAMPLE = range(11)

# Every row: its kind, and the wires of its ports, INS inputs first.
KIND, INS, OUTS, WIRES = 0, 1, 2, 3
PORTS = 64
BASE = WIRES + PORTS

# Constants. FIFO, PIPE and WINDOW end in a queue: its places, and its latency of 1 or 2.
PLACES, LATENCY, DELAY = BASE, BASE + 1, BASE + 2  # DELAY: cycles from a beat's start to its push
BEATS, FRAMES, PERIOD, START = BASE, BASE + 1, BASE + 2, BASE + 3  # SOURCE, SINK: beats a frame
FULL, LANES_IN, LANES_OUT, PER_PIXEL, REST = range(BASE, BASE + 5)  # REPACK
TURNS = BASE  # TAKE, GIVE: the beats of each turn are in its level's group
WORDS, TOP, LEFT, INNER_H, INNER_W, OUTER_H, OUTER_W = range(BASE, BASE + 7)  # PAD
ROWS, IN_WORDS, PASS, PASSES, PASS_BEATS, LAST_BEATS, LEVELS = range(BASE + 3, BASE + 10)  # WINDOW
SPAN_Y, SPAN_X, STRIDE_Y, STRIDE_X, ABOVE, BEFORE = range(BASE + 10, BASE + 16)

# Registers.
REG = BASE + 16
LEVEL, STORED, SHOWN, PEAK = range(REG, REG + 4)  # the queue
FREE, FLYING, WAITING = range(REG + 4, REG + 7)  # PIPE, WINDOW: outlet; beats on their way
STEP, PASS_NUMBER, OUT_X, OUT_Y, READ_LEVEL = range(REG + 7, REG + 12)  # WINDOW: the walk
NEED_Y, NEED_X, LIMIT = range(REG + 12, REG + 15)  # what the pixel needs; rows let in
HAVE_ROWS, HAVE_COLUMNS, WORD, IN_ROW, WRITE_LEVEL = range(REG + 15, REG + 20)
SENT = REG  # SOURCE, SINK
FILL, BEAT = REG, REG + 1  # REPACK
TURN, DONE = REG, REG + 1  # TAKE, GIVE; FORK has a bit of DONE for each reader
PAD_WORD, PAD_X, PAD_Y = range(REG, REG + 3)  # PAD

# Of each level: sizes of the frame walked over and of the output. TAKE, GIVE: beats of a turn.
LEVEL_DATA = REG + 20
HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH = range(4)
SIZE, GROUP = 0, 4


@njit(cache=True)
def show(m: Cells, b: int, valid: Flags, ready: Flags) -> None:
    """Valid and ready that depend on the registers of the cell at `b` alone."""
    k, a, o = m[b + KIND], b + WIRES, b + WIRES + m[b + INS]
    if k in (FIFO, PIPE, WINDOW, UPSAMPLE):
        valid[m[o]] = m[b + SHOWN] != 0 if m[b + LATENCY] == 2 else m[b + LEVEL] > 0
    if k in (WINDOW, UPSAMPLE):
        ready[m[a]] = m[b + HAVE_ROWS] < m[b + LIMIT]
    elif k == FIFO:
        ready[m[a]] = m[b + LEVEL] < m[b + PLACES]
    elif k == PIPE and m[b + INS] == 1:
        ready[m[a]] = m[b + FREE] > 0
    elif k == REPACK:
        valid[m[o]] = m[b + FILL] >= m[b + LANES_OUT]
        ready[m[a]] = m[b + FILL] <= m[b + FULL]
    elif k == SINK:
        ready[m[a]] = True


@njit(cache=True)
def forward(m: Cells, b: int, valid: Flags, cycle: int) -> None:
    """Valid of the outputs of the cell at `b`, from its registers and the valid of its inputs."""
    k, a, o = m[b + KIND], b + WIRES, b + WIRES + m[b + INS]
    if k == FORK:
        for p in range(m[b + OUTS]):
            valid[m[o + p]] = valid[m[a]] and not (m[b + DONE] >> p) & 1
    elif k == TAKE:
        valid[m[o]] = valid[m[a + m[b + TURN]]]
    elif k == GIVE:
        for p in range(m[b + OUTS]):
            valid[m[o + p]] = valid[m[a]] and m[b + TURN] == p
    elif k == PAD:
        valid[m[o]] = valid[m[a]] or not inside(m, b)
    elif k == SOURCE:
        time, sent = cycle - m[b + START], m[b + SENT]
        due = time >= 0 and time * m[b + BEATS] >= sent * m[b + PERIOD]
        valid[m[o]] = due and sent < m[b + BEATS] * m[b + FRAMES]


@njit(cache=True)
def inside(m: Cells, b: int) -> bool:
    """Whether a PAD cell is at a pixel of its input."""
    y, x = m[b + PAD_Y] - m[b + TOP], m[b + PAD_X] - m[b + LEFT]
    return bool(0 <= y < m[b + INNER_H] and 0 <= x < m[b + INNER_W])


@njit(cache=True)
def backward(m: Cells, b: int, valid: Flags, ready: Flags) -> None:
    """Ready of the inputs of the cell at `b`, from its registers and the ready of its outputs."""
    k, a, o = m[b + KIND], b + WIRES, b + WIRES + m[b + INS]
    if k == FORK:
        now = True
        for p in range(m[b + OUTS]):
            now = now and (ready[m[o + p]] or (m[b + DONE] >> p) & 1 == 1)
        ready[m[a]] = now
    elif k == TAKE:
        for p in range(m[b + INS]):
            ready[m[a + p]] = ready[m[o]] and m[b + TURN] == p
    elif k == GIVE:
        ready[m[a]] = ready[m[o + m[b + TURN]]]
    elif k == PAD:
        ready[m[a]] = ready[m[o]] and inside(m, b)
    elif k == PIPE:
        go = m[b + FREE] > 0
        ready[m[a]] = go and valid[m[a + 1]]
        ready[m[a + 1]] = go and valid[m[a]]


@njit(cache=True)
def queue(m: Cells, b: int, taken: int, given: int) -> None:
    """One clock of a queue; see `hdl.fifo.Fifo`."""
    if m[b + LATENCY] == 2:
        fetch = 1 if m[b + STORED] > 0 and (m[b + SHOWN] == 0 or given) else 0
        m[b + STORED] += taken - fetch
        if fetch or given:
            m[b + SHOWN] = fetch
    m[b + LEVEL] += taken - given
    m[b + PEAK] = max(m[b + PEAK], m[b + LEVEL])


@njit(cache=True)
def fetching(m: Cells, b: int) -> bool:
    """Whether a queue in block RAM will move a beat to its output register by itself."""
    return bool(m[b + STORED] > 0 and m[b + SHOWN] == 0)


@njit(cache=True)
def outlet(m: Cells, b: int, started: int, given: int) -> None:
    """One clock of a free-running pipeline and its outlet: `started` beats begin, one a cycle."""
    m[b + FREE] += given - started
    m[b + WAITING] += started
    pushed = m[b + FLYING] & 1
    m[b + FLYING] >>= 1
    if m[b + WAITING] > 0:
        m[b + WAITING] -= 1
        m[b + FLYING] |= 1 << (m[b + DELAY] - 1)
    if pushed or given or m[b + STORED]:
        queue(m, b, pushed, given)


@njit(cache=True)
def aim(m: Cells, b: int) -> None:
    """Set what the output pixel (OUT_Y, OUT_X) needs, and how many rows may be received."""
    s = b + LEVEL_DATA + GROUP * m[b + READ_LEVEL]
    if m[b + KIND] == UPSAMPLE:
        y = m[b + OUT_Y] * m[s + HEIGHT] // m[s + OUT_HEIGHT]
        x = m[b + OUT_X] * m[s + WIDTH] // m[s + OUT_WIDTH]
    else:
        y = m[b + OUT_Y] * m[b + STRIDE_Y] - m[b + ABOVE]
        x = m[b + OUT_X] * m[b + STRIDE_X] - m[b + BEFORE]
    m[b + NEED_Y] = min(y + m[b + SPAN_Y], m[s + HEIGHT]) - 1
    m[b + NEED_X] = x + m[b + SPAN_X] - 1  # beyond the frame: the whole row
    m[b + LIMIT] = max(0, min(y, m[s + HEIGHT])) + m[b + ROWS]


@njit(cache=True)
def receive(m: Cells, b: int) -> None:
    """A beat into the line buffer."""
    s = b + LEVEL_DATA + GROUP * m[b + WRITE_LEVEL]
    m[b + WORD] += 1
    if m[b + WORD] == m[b + IN_WORDS]:
        m[b + WORD] = 0
        m[b + HAVE_COLUMNS] += 1
        if m[b + HAVE_COLUMNS] == m[s + WIDTH]:
            m[b + HAVE_COLUMNS] = 0
            m[b + HAVE_ROWS] += 1
            m[b + IN_ROW] += 1
            if m[b + IN_ROW] == m[s + HEIGHT]:
                m[b + IN_ROW] = 0
                m[b + WRITE_LEVEL] = (m[b + WRITE_LEVEL] + 1) % m[b + LEVELS]


@njit(cache=True)
def next_pixel(m: Cells, b: int) -> None:
    """The walk goes to the next output pixel, row, or frame."""
    s = b + LEVEL_DATA + GROUP * m[b + READ_LEVEL]
    m[b + OUT_X] += 1
    if m[b + OUT_X] == m[s + OUT_WIDTH]:
        m[b + OUT_X] = 0
        m[b + OUT_Y] += 1
        if m[b + OUT_Y] == m[s + OUT_HEIGHT]:
            m[b + OUT_Y] = 0
            m[b + HAVE_ROWS] -= m[s + HEIGHT]
            m[b + READ_LEVEL] = (m[b + READ_LEVEL] + 1) % m[b + LEVELS]
    aim(m, b)


@njit(cache=True)
def tick_window(m: Cells, b: int, taken: int, given: int) -> int:
    """One clock of a line buffer, its window walk and the pipeline behind; see `hdl.window`."""
    issue, changed = True, taken > 0
    if m[b + STEP] == 0 and m[b + PASS_NUMBER] == 0:
        have = m[b + HAVE_ROWS] - m[b + NEED_Y]
        issue = have > 0 or (have == 0 and m[b + HAVE_COLUMNS] > m[b + NEED_X])
    pass_end = m[b + STEP] == m[b + PASS] - 1
    if pass_end and m[b + FREE] < m[b + PASS_BEATS]:
        issue = False
    beats, last = 0, False
    if issue and pass_end:
        last = m[b + PASS_NUMBER] == m[b + PASSES] - 1
        beats = m[b + LAST_BEATS] if last else m[b + PASS_BEATS]
    if beats or given or m[b + FLYING] or m[b + WAITING] or fetching(m, b):
        outlet(m, b, beats, given)
        changed = True
    if taken:
        receive(m, b)
    if issue:
        m[b + STEP] = 0 if pass_end else m[b + STEP] + 1
        if pass_end:
            m[b + PASS_NUMBER] = 0 if last else m[b + PASS_NUMBER] + 1
    if last:
        next_pixel(m, b)
    return 2 if changed else int(issue)


@njit(cache=True)
def tick(m: Cells, b: int, valid: Flags, ready: Flags) -> int:
    """One clock of the cell at `b`; returns 2 when `show` may change, 1 for a step inside."""
    k, a, o = m[b + KIND], b + WIRES, b + WIRES + m[b + INS]
    taken = 1 if m[b + INS] > 0 and valid[m[a]] and ready[m[a]] else 0
    given = 1 if m[b + OUTS] > 0 and valid[m[o]] and ready[m[o]] else 0
    moved = taken + given > 0
    if k in (WINDOW, UPSAMPLE):
        return tick_window(m, b, taken, given)
    elif k == FIFO:
        if not moved and not fetching(m, b):
            return 0
        queue(m, b, taken, given)
        return 2
    elif k == PIPE:
        if not moved and m[b + FLYING] == 0 and not fetching(m, b):
            return 0
        outlet(m, b, taken, given)
        return 2
    elif k == REPACK:
        m[b + FILL] -= given * m[b + LANES_OUT]
        if taken:
            last = m[b + BEAT] == m[b + PER_PIXEL] - 1
            m[b + FILL] += m[b + REST] if last else m[b + LANES_IN]
            m[b + BEAT] = 0 if last else m[b + BEAT] + 1
    elif k == FORK:
        if valid[m[a]]:
            done = m[b + DONE]
            for p in range(m[b + OUTS]):
                if ready[m[o + p]]:
                    done |= 1 << p
            m[b + DONE] = 0 if taken else done
    elif k in (TAKE, GIVE):
        turn = m[b + TURN]
        wire = m[a + turn] if k == TAKE else m[o + turn]
        if valid[wire] and ready[wire]:
            moved = True
            m[b + DONE] += 1
            if m[b + DONE] == m[b + LEVEL_DATA + GROUP * turn + SIZE]:
                m[b + DONE] = 0
                m[b + TURN] = (turn + 1) % m[b + TURNS]
    elif k == PAD:
        if given:
            m[b + PAD_WORD] += 1
            if m[b + PAD_WORD] == m[b + WORDS]:
                m[b + PAD_WORD] = 0
                m[b + PAD_X] += 1
                if m[b + PAD_X] == m[b + OUTER_W]:
                    m[b + PAD_X] = 0
                    m[b + PAD_Y] = (m[b + PAD_Y] + 1) % m[b + OUTER_H]
    elif k == SOURCE:
        m[b + SENT] += given
    return 2 if moved else 0


@njit(cache=True)
def run(m: Cells, row: int, joining: int, unread: Flags, finished: Cells, patience: int) -> int:
    """Clock until every sink has all its frames; returns the cycles, or -1 after a deadlock.

    row       numbers of a cell.
    joining   the first cell whose valid or ready depends on other cells in the same cycle; such
              cells come last, each behind what it reads.
    unread    for each wire, whether nothing reads it.
    finished  (cells, frames): filled with the cycle of each frame's last beat, for sinks.
    """
    valid = np.zeros(len(unread), dtype=np.bool_)
    ready = unread.copy()
    changed = np.zeros(len(m) // row, dtype=np.int64)
    end, middle = len(m), joining * row
    left = 0
    for b in range(0, end, row):
        if m[b + KIND] == SINK:
            left += finished.shape[1]
        elif m[b + KIND] in (WINDOW, UPSAMPLE):
            aim(m, b)
        show(m, b, valid, ready)
    cycle, quiet = 0, 0
    while left > 0 and quiet <= patience:
        for b in range(middle, end, row):
            forward(m, b, valid, cycle)
        for b in range(end - row, middle - row, -row):
            backward(m, b, valid, ready)
        quiet += 1
        count = 0
        for b in range(0, end, row):
            if m[b + KIND] == SINK and valid[m[b + WIRES]]:
                m[b + SENT] += 1
                frame = m[b + SENT] // m[b + BEATS] - 1
                if m[b + SENT] % m[b + BEATS] == 0 and frame < finished.shape[1]:
                    finished[b // row, frame] = cycle
                    left -= 1
            else:
                happened = tick(m, b, valid, ready)
                if happened:
                    quiet = 0
                if happened > 1:
                    changed[count] = b
                    count += 1
        for n in range(count):
            show(m, changed[n], valid, ready)
        cycle += 1
    return cycle if left == 0 else -1
