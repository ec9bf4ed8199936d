"""What a bench noted while it ran: the beats of every output, and what else happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from intaglio.codegen.folder.bench import EVENTS, cycles_file
from intaglio.codegen.structure.ports import FRAME_ERROR
from intaglio.cosim.port import Port
from intaglio.cosim.protocol import Fault
from intaglio.cosim.score import Recording

FRAME = 7  # the number of a fault that the design tells, beside those of the protocol


@dataclass(frozen=True)
class Broken:
    """A rule that an output broke, and where first: `cycle` counts from the reset before `run`."""

    tensor: str
    origin: str
    run: int
    cycle: int
    rule: str

    def sentence(self) -> str:
        """For people."""
        where = f"{self.tensor} (from {self.origin})" if self.origin else self.tensor
        return f"{where}: run {self.run}, cycle {self.cycle}: {self.rule}"


@dataclass(frozen=True)
class Events:
    """ends: cycle in which each run came to its end; hung: the run that did not, if any; wrong:
    that in which nothing more was played, as a beat had been wrong; faults: (run, cycle, stream,
    number), the first of each kind and stream."""

    ends: tuple[int, ...]
    hung: int | None
    wrong: int | None
    faults: tuple[tuple[int, int, str, int], ...]

    @property
    def begun(self) -> int:
        """Runs that began."""
        return len(self.ends) + self.broken_off

    @property
    def broken_off(self) -> bool:
        """Whether a run did not come to its end."""
        return self.hung is not None or self.wrong is not None

    def broken(self, ports: Sequence[Port]) -> tuple[Broken, ...]:
        """The rules that these streams broke, the earliest first."""
        named = {port.name: port for port in ports}
        words = {int(fault): fault.words for fault in Fault}
        words[FRAME] = f"{FRAME_ERROR} must be 0, for every frame of the input is whole"
        return tuple(
            Broken(named[name].tensor, named[name].origin, run, cycle, words[number])
            for run, cycle, name, number in sorted(self.faults)
            if number in words
        )


def read_events(folder: Path) -> Events:
    """The events of a build's bench."""
    ends, hung, wrong, faults = [], None, None, []
    path = folder / EVENTS
    for line in path.read_text().splitlines() if path.is_file() else ():
        match line.split():
            case ["end", _, cycle]:
                ends.append(int(cycle))
            case ["hung", run, _]:
                hung = int(run)
            case ["wrong", run, _]:
                wrong = int(run)
            case ["fault", run, cycle, name, number]:
                faults.append((int(run), int(cycle), name, int(number)))
    return Events(tuple(ends), hung, wrong, tuple(faults))


def read_recordings(path: Path) -> dict[int, Recording]:
    """By run, from lines `run cycle tlast tdata`."""
    found: dict[int, Recording] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        words = line.split()
        if len(words) == 4:
            one = found.setdefault(int(words[0]), Recording())
            one.cycles.append(int(words[1]))
            one.lasts.append(int(words[2]) if words[2] in "01" else None)
            one.data.append(-1 if set(words[3]) & set("xXzZ") else int(words[3], 16))
    return found


def read_recording(path: Path) -> Recording:
    """Of the last run: the one without pauses, where there are several."""
    found = read_recordings(path)
    return found[max(found)] if found else Recording()


def frame_ends(sinks: Sequence[Port], got: Mapping[str, Recording], frames: int) -> list[int]:
    """The cycle of each frame's last beat, over all outputs."""
    ends = [got[s.tensor].cycles[s.beats - 1 :: s.beats][:frames] for s in sinks]
    return [max(frame) for frame in zip(*ends, strict=True)]


def longest(ends: Sequence[int]) -> int:
    """The longest distance between the ends of two consecutive frames."""
    return max(b - a for a, b in pairwise(ends))


def predicted_cycles(folder: Path, port: Port) -> list[tuple[int, int]]:
    """First and last beat of each frame of an output, as the build has them."""
    lines = (folder / cycles_file(port)).read_text().splitlines()
    return [(int(first, 16), int(last, 16)) for first, last in map(str.split, lines)]


def unpredicted(folder: Path, port: Port, got: Recording, frames: int, run: int) -> Broken | None:
    """The first frame of an output that begins or ends in another cycle than predicted."""
    beats = port.beats
    for frame, (first, last) in enumerate(predicted_cycles(folder, port)[:frames]):
        begun, ended = got.cycles[frame * beats], got.cycles[(frame + 1) * beats - 1]
        if begun != first:
            rule = f"frame {frame} begins in this cycle, not in {first}"
            return Broken(port.tensor, port.origin, run, begun, rule)
        if ended != last:
            rule = f"frame {frame} ends in this cycle, not in {last}"
            return Broken(port.tensor, port.origin, run, ended, rule)
    return None
