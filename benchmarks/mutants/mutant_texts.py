"""Mutants by an edit of the text: constants, ROM words, resets, and numbers of the timetable."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mutant import Kind, Mutant, Sources, drawn

LITERAL = re.compile(r"(?<![\w'])(\d+)'h([0-9a-f]+)\b")
RESET = re.compile(r"if \(rst\)(?: begin)?\s+(\w+) <?= (\d+)'h([0-9a-f]+);")
# Places of a queue, results that must have room, rows that a line buffer lets in.
TIMED = re.compile(r"\b(i_ready = level != |go = \w+ >= |next_limit_1_sum_3 = )")


def lines_of(body: str) -> Iterator[tuple[int, str]]:
    """Where each line begins, and the line; without declarations, the words of memories at the
    start, resets, and the ports of instances."""
    at, reset = 0, False
    for line in body.splitlines(keepends=True):
        plain = line.strip()
        starts = plain.startswith(
            ("reg ", "wire ", "input", "output", "memory[", ".", "(*", "module")
        )
        if not starts and not reset and "if (rst)" not in plain:
            yield at, line
        reset = plain.startswith("if (rst)")
        at += len(line)


def other(draw: random.Random, width: int, value: int) -> int:
    """A number near another, or with another bit."""
    near = [value + 1, value - 1, value ^ 1 << draw.randrange(width)]
    return draw.choice([n % (1 << width) for n in near if n % (1 << width) != value])


def literals(sources: Sources, kind: Kind) -> list[tuple[str, int, re.Match[str]]]:
    """Module, line's start and literal of all that a kind changes."""
    return [
        (module, at, found)
        for module in sources.inside()
        for at, line in lines_of(sources.modules[module])
        if (TIMED.search(line) is not None) == (kind == "timing")
        for found in LITERAL.finditer(line)
    ]


def constants(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """Numbers in the Verilog: of clamps, shifts, counters, comparisons."""
    draw = drawn(sources, "constant", seed)
    places = literals(sources, "constant")
    for module, at, found in draw.sample(places, min(count, len(places))):
        yield changed(sources, draw, "constant", module, at, found)


def timetable(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """Places that a queue has, results there must be room for, rows that are let in."""
    draw = drawn(sources, "timing", seed)
    places = literals(sources, "timing")
    for module, at, found in draw.sample(places, min(count, len(places))):
        yield changed(sources, draw, "timing", module, at, found)


def changed(
    sources: Sources, draw: random.Random, kind: Kind, module: str, at: int, found: re.Match[str]
) -> Mutant:
    """Another number at a place."""
    body, width = sources.modules[module], int(found[1])
    new = f"{width}'h{other(draw, width, int(found[2], 16)):x}"
    start, end = at + found.start(), at + found.end()
    line = body[at:].split("\n", 1)[0].strip()
    what = f"{new} for {found[0]} (column {found.start()}) in {line}"
    return sources.of_module(kind, module, what, body[:start] + new + body[end:])


def resets(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """A register that a reset leaves alone, or sets to another value. Its initial one stays."""
    draw = drawn(sources, "reset", seed)
    places = [(m, f) for m in sources.inside() for f in RESET.finditer(sources.modules[m])]
    for module, found in draw.sample(places, min(count, len(places))):
        body, width, value = sources.modules[module], int(found[2]), int(found[3], 16)
        if draw.randrange(2):
            new, what = found[0].replace("(rst)", "(1'h0)"), f"{found[1]} is not reset"
        else:
            number = f"{width}'h{other(draw, width, value):x}"
            new = found[0].replace(f"{found[2]}'h{found[3]}", number)
            what = f"{found[1]} is reset to {number}"
        yield sources.of_module(
            "reset", module, what, body[: found.start()] + new + body[found.end() :]
        )


def roms(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """A bit of a word, or two words exchanged."""
    draw, seen = drawn(sources, "rom", seed), set[str]()
    while len(seen) < count:
        path = draw.choice(sources.roms)
        words = sources.files[path].split()
        if draw.randrange(2) and len({*words}) > 1:
            a = draw.randrange(len(words))
            b = draw.choice([n for n, word in enumerate(words) if word != words[a]])
            words[a], words[b] = words[b], words[a]
            what = f"words {min(a, b)} and {max(a, b)} exchanged"
        else:
            at, bits = draw.randrange(len(words)), 4 * len(words[0])
            bit = draw.randrange(bits)
            words[at] = f"{int(words[at], 16) ^ 1 << bit:0{bits // 4}x}"
            what = f"bit {bit} of word {at}"
        if f"{path} {what}" not in seen:
            seen.add(f"{path} {what}")
            text = "".join(f"{word}\n" for word in words)
            block = sources.block(path.removeprefix("rom/").removesuffix(".hex"))
            yield Mutant("rom", block, "", path, what, text)
