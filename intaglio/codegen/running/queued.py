"""The queues of a build while it runs: none overflows, and each holds as much as was predicted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

QUEUES = "queues.json"  # of a build: `schedule.queues` writes it


@dataclass(frozen=True)
class Queue:
    """Its number, its name in the Verilog, places, the most beats predicted in a run without
    pauses, and in the bench's words when a beat enters and leaves."""

    number: int
    name: str
    places: int
    most: int
    entered: str
    left: str

    def verilog(self) -> str:
        """What looks at it, in the bench."""
        return (
            f"  bench_queue #(.PLACES({self.places}), .NUMBER({self.number}))\n"
            f"    queue_{self.number} (.clk(clk), .rst(reset), .file(events), .run(run),"
            f" .cycle(cycle),\n    .entered({self.entered}), .left({self.left}));\n"
        )


def queues_of(folder: Path, connected: Mapping[str, Mapping[str, str]]) -> list[Queue]:
    """Those of a build, `connected` as `streams.nets` has it."""
    found = []
    for number, stored in enumerate(json.loads((folder / QUEUES).read_text())["queues"]):
        ports = connected.get(stored["name"])
        if ports is None:
            continue
        moves = []
        for side in "io":
            wires = [ports.get(f"{side}_{wire}", "1'h1") for wire in ("valid", "ready")]
            moves.append(" & ".join(net if "'" in net else f"dut.{net}" for net in wires))
        most = max(stored["held"])
        found.append(Queue(number, stored["name"], stored["places"], most, *moves))
    return found


def wrong_queues(events: Sequence[str], queues: Sequence[Queue], timed: int | None) -> list[str]:
    """Sentences about queues that overflow, and those whose most beats in run `timed` are not what
    was predicted; None: no run is as it was predicted."""
    by_number = {queue.number: queue for queue in queues}
    found = []
    for line in events:
        match line.split():
            case ["over", run, cycle, number]:
                queue = by_number[int(number)]
                found.append(
                    f"Queue {queue.name} overflows its places ({queue.places}): run {run}, cycle"
                    f" {cycle}."
                )
            case ["held", run, number, most] if int(run) == timed:
                queue = by_number[int(number)]
                if int(most) != queue.most:
                    found.append(
                        f"Queue {queue.name} held at most {most} beats in run {run}, predicted"
                        f" {queue.most}."
                    )
    return found
