"""What long work says of itself: a line when a step ends, and within a long one how far it is.

    [3/7] folding and queues: design 2, queue 14 of 41 ... 8 s
    [3/7] folding and queues ... 12.4 s

Whoever does the work names its steps before the first of them, so that their number is true. It
tells `Steps` alone, which prints nothing unless it was given something to print with.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from os import SEEK_END
from pathlib import Path
from typing import Any, Protocol

from intaglio.errors import IntaglioError
from intaglio.system.disk import write_text
from intaglio.system.memory import most_used, used

Say = Callable[[str], None]


class Tell(Protocol):
    """What is done now, how much of it, and of how much; 0 where that is not known."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None: ...


SOON, OFTEN = 2.0, 4.0  # seconds without a line before the first of a step, and before others
LOOK = 0.25  # seconds between two looks at the clock and the memory
RECORD = "steps.json"
TAIL, LONGEST = 4096, 96  # bytes of a log that are looked at, letters of a line that is shown


@dataclass(frozen=True)
class Took:
    """A step that has ended: its seconds, the most bytes that this process and its children held
    together while it ran, and the seconds of its parts, where it has any."""

    name: str
    seconds: float
    peak_bytes: int
    parts: Mapping[str, float]


class Steps:
    """The steps of one work.

    say    takes each line; None: nothing is said, and times and memory are kept all the same.
    after  steps that whoever called the work adds at its end.

    Lines come as time passes inside `with steps:`, and inside each step.
    """

    def __init__(self, say: Say | None = None, *, after: Sequence[str] = ()) -> None:
        self.took: list[Took] = []
        self.names: tuple[str, ...] = ()
        self._say, self._after = say, tuple(after)
        self._lock = threading.RLock()
        self._inside = 0
        self._thread: threading.Thread | None = None
        self._watched: Callable[[], str] = str
        self._parts: dict[str, float] = {}
        self._part, self._part_began, self._peak = "", 0.0, 0
        self._ended = threading.Event()
        self._spoken = time.monotonic()
        self._begin("starting")

    def plan(self, *names: str) -> None:
        """Every step to come. Of works inside each other the outermost says it, and that counts."""
        if not self.names:
            self.names = (*names, *self._after)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One of them. What raises something has not ended."""
        with self:
            with self._lock:
                self._begin(name)
            before = most_used()
            yield
            with self._lock:
                self._look()
                if most_used() > before:  # it may have been between two looks
                    self._peak = max(self._peak, most_used())
                self.tell("")
                seconds = time.monotonic() - self._started
                parts = {part: round(spent, 3) for part, spent in self._parts.items()}
                self._speak(f"{self._head()} \u2026 {spoken(seconds)}")
                self.took.append(Took(name, round(seconds, 3), self._peak, parts))
                self._begin("")

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """What the step does now, like "queue", 14, 41. The seconds of each `what` are kept."""
        with self._lock:
            now = time.monotonic()
            if what != self._part:
                if self._part:
                    spent = now - self._part_began
                    self._parts[self._part] = self._parts.get(self._part, 0.0) + spent
                self._part, self._part_began = what, now
            self._watched = partial(counted, what, done, total)

    @contextmanager
    def aside(self, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """`what` must be done before the step can go on; yields what is told (done, total) of it.
        Then the step does again what it did."""
        with self._lock:
            before, watched = self._part, self._watched
        self.tell(what, 0, total)
        try:
            yield partial(self.tell, what)
        finally:
            with self._lock:
                self.tell(before)
                self._watched = watched

    def progress(self, done: int, total: int) -> None:
        """How much is done of a step that does one thing."""
        self.watch(partial(counted, "", done, total))

    def watch(self, look: Callable[[], str]) -> None:
        """`look` says what the step does now; it is called when a line is due."""
        with self._lock:
            self._watched = look

    def follow(self, log: Path) -> None:
        """A program outside does the step and writes to `log`, whose last line says how far."""
        self.watch(partial(last_line, log))

    def to_json(self) -> list[dict[str, Any]]:
        """Of each step that ended: name, seconds, peak_bytes, parts."""
        return [asdict(took) for took in self.took]

    def write(self, path: Path) -> None:
        """The steps as a JSON file; a disk that refuses it does not undo the work."""
        with suppress(IntaglioError):
            write_text(path, json.dumps({"steps": self.to_json()}, indent=1) + "\n")

    def __enter__(self) -> Steps:
        self._inside += 1
        if self._inside == 1:
            RUNNING.append(self)
        if self._inside == 1 and self._say is not None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name="steps", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._inside -= 1
        if self._inside == 0:
            RUNNING.remove(self)
        if self._inside == 0 and self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def _begin(self, name: str) -> None:
        """A step, or "", what lies between two."""
        self._name, self._started, self._patience = name, time.monotonic(), SOON
        self._peak = used()
        self._parts, self._part, self._part_began = {}, "", 0.0
        self._watched = str

    def _run(self) -> None:
        """The thread that looks at the clock."""
        while not self._ended.wait(LOOK):
            with self._lock:
                self._look()
                now = time.monotonic()
                if now - self._spoken >= self._patience and self._name:
                    what = self._watched()
                    middle = f": {what}" if what else ""
                    self._speak(f"{self._head()}{middle} \u2026 {spoken(now - self._started)}")
                    self._patience = OFTEN

    def _look(self) -> None:
        self._peak = max(self._peak, used())

    def _head(self) -> str:
        count = f"[{len(self.took) + 1}/{len(self.names)}] " if self.names else ""
        return count + self._name

    def _speak(self, line: str) -> None:
        self._spoken = time.monotonic()
        if self._say is not None:
            self._say(line)


RUNNING: list[Steps] = []  # those of this process that are at work, the innermost last


@contextmanager
def aside(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """`Steps.aside` of whoever does a step now, for work that nobody planned: code that is compiled
    when it is first needed. Tells nobody where nobody logs steps."""
    running = RUNNING[-1] if RUNNING else Steps()
    with running.aside(what, total) as progress:
        yield progress


def counted(what: str, done: int, total: int) -> str:
    """How far something is."""
    count = f"{done:,} of {total:,}" if total else f"{done:,}" if done else ""
    return f"{what} {count}".strip()


def spoken(seconds: float) -> str:
    """Seconds in as many digits as matter."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def last_line(log: Path) -> str:
    """The last line of a text that is being written, shortened; "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, SEEK_END) - TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "\u2026"


def is_record(path: Path) -> bool:
    """Whether `Steps.write` wrote it."""
    try:
        return set(json.loads(path.read_bytes())) == {"steps"}
    except (OSError, ValueError, TypeError):
        return False


def quiet(what: str, done: int = 0, total: int = 0) -> None:
    """A `Tell` that tells nobody."""
