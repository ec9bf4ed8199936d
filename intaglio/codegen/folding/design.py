# amaranth: UnusedElaboratable=no
"""From a Program and what is asked to a design: folding, queues, schedule, shared engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from math import isqrt
from typing import Any

from intaglio.codegen.area.clocks import check_clock
from intaglio.codegen.area.devices import Device
from intaglio.codegen.area.limits import reserve, routable, usable
from intaglio.codegen.area.mapping import Need
from intaglio.codegen.folding.estimate import (
    Resources,
    check_fit,
    check_rest,
    check_weights,
    total_need,
)
from intaglio.codegen.folding.share import sharings
from intaglio.codegen.folding.solve import Problem, price, taken
from intaglio.codegen.schedule.sizing import enough, size_queues
from intaglio.codegen.schedule.timing import Model, Schedule, best_interval
from intaglio.codegen.structure.assemble import Parts, Top
from intaglio.codegen.structure.fold import (
    Plan,
    plan_for_cycles,
    plan_for_multipliers,
    too_fast,
    widened,
)
from intaglio.codegen.structure.graph import HardwareGraph, Key, Link, hardware_graph
from intaglio.codegen.structure.netlist import joining, netlist
from intaglio.errors import BuildError, FitError, Remedy
from intaglio.hdl.stream import ceil_div
from intaglio.program import Program
from intaglio.system.steps import Tell, quiet

TRIES = 4  # designs made until one fits
ROUGHLY, RAMS = 1.03, 1.1  # of the limits, by a design whose queues are not as shallow as can be
SPARE = 1.02  # of what a design took beside its convolutions; queues not yet sized have spare
WIDER = (2, 4, 8)  # parts of the cycles that blocks without multipliers may take, to be faster


@dataclass(frozen=True)
class Design:
    """A design that fits its target; what engines of several convolutions write, and `why` there
    are any, or none though asked for."""

    graph: HardwareGraph
    plan: Plan
    top: Top
    schedule: Schedule
    resources: Resources
    sharing: tuple[Key, ...]
    why: str = ""

    def sharing_json(self) -> dict[str, Any]:
        """why; engines of several convolutions: their `layers`, and the `tensors` they write in the
        order of their frames."""
        engines = [
            {"layers": list(block.origins), "tensors": list(key)}
            for key in self.sharing
            for block in self.graph.blocks
            if block.writes == (key,) and block.ops
        ]
        return {"why": self.why, "engines": engines}


def designed(
    program: Program,
    chip: Device,
    fps: float | None,
    lanes: int | None,
    clock_mhz: float,
    *,
    share: bool | None = None,
    tell: Tell = quiet,
) -> Design:
    """What `bundle.build` makes files of. Raises BuildError when nothing does what is asked, and
    FitError where the target holds too little (`remedies.helped` says what would help).

    Convolutions share engines where no design fits without that, as few as will do; or, if `share`
    is True, as many as make the cheapest design. `tell` hears of folding, queues and sharing: each
    design that is tried has the first two.
    """
    check_asked(hardware_graph(program), chip, fps, lanes, clock_mhz, share)
    plain, refusal = None, BuildError("")
    try:
        plain = made(program, (), chip, fps, lanes, clock_mhz, tell)
    except BuildError as error:
        if share is False or lanes is not None:
            raise
        refusal = error
    if plain is not None and not share:
        return plain
    found = shared(program, chip, fps, clock_mhz, plain, more=bool(share), tell=tell)
    if found is None:
        raise refusal
    rate = "" if fps is None else f" at {fps:g} frames/s"
    if plain is None:
        return replace(found, why=f"No design without that fits {chip.name}{rate}.")
    if found is plain:
        better = "faster" if fps is None else "cheaper"
        return replace(plain, why=f"No engine is shared: that would not make the design {better}.")
    faster = fps is None and found.schedule.interval < plain.schedule.interval
    return replace(found, why=f"That makes the design {'faster' if faster else 'cheaper'}{rate}.")


def check_asked(
    graph: HardwareGraph,
    chip: Device,
    fps: float | None,
    lanes: int | None,
    clock_mhz: float,
    share: bool | None,
) -> None:
    """Raises BuildError for what no design can do, whatever its engines share."""
    check_clock(clock_mhz)
    if lanes is not None and lanes < 1:
        raise BuildError(f"lanes (--multipliers) must be at least 1, not {lanes}.")
    if lanes is not None and share:
        raise BuildError(
            "--share must not be asked for together with --multipliers, which fix the folding",
            (Remedy("multipliers", None), Remedy("share", None)),
        )
    slow = plan_for_cycles(graph, 1 << 62)
    check_weights(graph, slow, chip)
    if chip.family != "generic":
        check_rest(Top(netlist(graph, slow), chip.family), chip)
    if fps is not None:
        check_rate(graph, chip, fps, clock_mhz)


def check_rate(graph: HardwareGraph, chip: Device, fps: float, clock_mhz: float) -> None:
    """Raises BuildError where the rate is out of reach of the fastest foldings, with that which
    they reach together."""
    if not fps > 0:
        raise BuildError(f"fps must be greater than 0, not {fps}.")
    plan = plan_for_cycles(graph, 1)
    if plan.foldings[plan.slowest].cycles > clock_mhz * 1e6 / fps:
        interval = best_interval(unhindered(graph, plan, chip, {})[2])
        raise too_fast(graph, plan, interval, fps, clock_mhz)


def shared(
    program: Program,
    chip: Device,
    fps: float | None,
    clock_mhz: float,
    plain: Design | None,
    *,
    more: bool,
    tell: Tell = quiet,
) -> Design | None:
    """The first design that fits, from that with one engine less to that with the fewest; with
    `more`, the best of all and of `plain`, the design without sharing, if that fits."""
    cycles = int(clock_mhz * 1e6 / fps) if fps is not None else None if plain else 1 << 62
    best = plain

    def cost(design: Design) -> tuple[float, float]:
        slow = 0 if fps is not None else design.schedule.interval
        return slow, price(total_need(design.top, chip), chip)

    tell("sharing")
    for sharing in sharings(hardware_graph(program), chip, cycles):
        try:
            design = made(program, sharing, chip, fps, None, clock_mhz, tell)
        except BuildError:  # its queues take more than was estimated
            continue
        if best is None or cost(design) < cost(best):
            best = design
        if not more:
            break
        tell("sharing")
    return best


def made(
    program: Program,
    sharing: tuple[Key, ...],
    chip: Device,
    fps: float | None,
    lanes: int | None,
    clock_mhz: float,
    tell: Tell = quiet,
) -> Design:
    """With those engines shared and no others. Raises BuildError when it does not fit."""
    graph = hardware_graph(program, sharing)
    tell("folding")
    plan, top, schedule = fitted(graph, chip, fps, lanes, clock_mhz, tell)
    return Design(graph, plan, top, schedule, check_fit(top, chip), sharing)


def fitted(
    graph: HardwareGraph,
    chip: Device,
    fps: float | None,
    lanes: int | None,
    clock_mhz: float,
    tell: Tell = quiet,
) -> tuple[Plan, Top, Schedule]:
    """Folding, the design with its queue depths, and its schedule."""
    parts: Parts = {}
    if fps is not None:
        return at_rate(graph, chip, fps, lanes, clock_mhz, parts, tell)
    if lanes is None and chip.family != "generic":
        problem = Problem.of(graph, chip)
        *easier, most = rungs(problem, parts)
        for limits in easier:
            with suppress(BuildError):
                found = fastest(problem, limits, parts, tell)
                if fits(found[1], chip, limits):
                    return found
        return fastest(problem, most, parts, tell)
    if lanes is None:
        lanes = max(chip.multipliers, plan_for_cycles(graph, 1 << 62).multipliers)
    return formed(graph, chip, plan_for_multipliers(graph, lanes), parts, tell)


def rungs(problem: Problem, parts: Parts) -> list[Need]:
    """Limits to try in turn: what routes with ease, or more of that alone of which even the slowest
    design takes more; and all that routes, for a small target may be filled to the brim."""
    easy, most = usable(problem.chip), routable(problem.chip)
    try:
        plan, _ = problem.within(most, reserve(most)).solve(1 << 62)
    except BuildError:
        return [most]
    slow = total_need(unhindered(problem.graph, plan, problem.chip, parts)[1], problem.chip)
    short = {
        f.name: getattr(most, f.name) for f in fields(Need)
        if getattr(slow, f.name) > getattr(easy, f.name)
    }  # fmt: skip
    return [replace(easy, **short), most]


def fastest(
    problem: Problem, limits: Need, parts: Parts, tell: Tell = quiet
) -> tuple[Plan, Top, Schedule]:
    """The fastest design within the limits; the slowest, where that is beyond them."""
    with suppress(BuildError):
        found = solved(problem, limits, None, parts, tell)
        if fits(found[1], problem.chip, limits):
            return found
    return slowed(problem, limits, parts, tell)


def formed(
    graph: HardwareGraph, chip: Device, plan: Plan, parts: Parts, tell: Tell = quiet
) -> tuple[Plan, Top, Schedule]:
    """The design of a plan; what its products and weights are made of is chosen so that it fits."""
    if chip.family == "generic":
        return scheduled(graph, plan, chip, tell, parts)
    return solved(Problem.of(graph, chip, plan), routable(chip), plan.cycles, parts, tell)


def solved(
    problem: Problem, limits: Need, cycles: int | None, parts: Parts, tell: Tell = quiet
) -> tuple[Plan, Top, Schedule]:
    """The cheapest design whose layers take at most `cycles`; None: the fastest within `limits`.

    What queues and adapters take is known once they are there: while a design is beyond the limits
    it is chosen anew with that set aside. The depths of its queues, which take the longest, are
    computed where the design is hardly beyond the limits with what its queues need at most.
    """
    chip, graph = problem.chip, problem.graph
    extra = reserve(limits)
    for left in reversed(range(TRIES)):
        tell("folding")
        try:
            plan, chosen = problem.within(limits, extra).solve(cycles)
        except FitError:
            if left < TRIES - 1:
                raise
            plan, chosen = problem.within(limits, Need()).solve(cycles)  # the first is a guess
        plan, top, model = unhindered(graph, plan, chip, parts)
        top.set_depths(enough(model))
        sized = not left or total_need(top, chip).within(roughly(limits))
        if sized:
            depths, schedule = size_queues(model, tell)
            top.set_depths(depths)
        whole, own = total_need(top, chip), taken(chosen)
        if not left or whole.within(limits):
            break
        more, part = whole - own, SPARE if sized else 1.0
        extra = Need(part * more.luts, part * more.ffs, more.rams, more.multipliers,
                     part * more.cells)  # fmt: skip
    return plan, top, schedule


def roughly(limits: Need) -> Need:
    """What a design may take before its queues are as shallow as they can be."""
    return Need(ROUGHLY * limits.luts, ROUGHLY * limits.ffs, RAMS * limits.rams,
                limits.multipliers, ROUGHLY * limits.cells)  # fmt: skip


def slowed(
    problem: Problem, limits: Need, parts: Parts, tell: Tell = quiet
) -> tuple[Plan, Top, Schedule]:
    """The fastest design within the limits, to a twentieth, found by halving: where the fastest
    layers leave no room for what lies between them, slower ones do, for their streams are narrower.
    The slowest, where not even that is within them.
    """
    best = solved(problem, limits, 1 << 62, parts, tell)
    low, high = (plan.foldings[plan.slowest].cycles
                 for plan in (plan_for_cycles(problem.graph, 1), best[0]))  # fmt: skip
    while fits(best[1], problem.chip, limits) and high > 1.05 * low:
        middle = isqrt(low * high)
        with suppress(BuildError):
            found = solved(problem, limits, middle, parts, tell)
            if fits(found[1], problem.chip, limits):
                best, high = found, middle
                continue
        low = middle
    return best


def fits(top: Top, chip: Device, limits: Need) -> bool:
    """Whether all of it is within them."""
    return total_need(top, chip).within(limits)


def scheduled(
    graph: HardwareGraph, plan: Plan, chip: Device, tell: Tell = quiet,
    parts: Parts | None = None,
) -> tuple[Plan, Top, Schedule]:  # fmt: skip
    """The plan (`unhindered`) and its design, its queues sized; `parts` as in `Top`."""
    plan, top, model = unhindered(graph, plan, chip, {} if parts is None else parts)
    depths, schedule = size_queues(model, tell)
    top.set_depths(depths)
    return plan, top, schedule


def modelled(
    graph: HardwareGraph, plan: Plan, chip: Device, before: Sequence[Link], parts: Parts
) -> tuple[Top, Model]:
    """The design of a plan with queues on those links `before` joins, and its cycle model."""
    top = Top(netlist(graph, plan, before), chip.family, parts)
    return top, Model(top.netlist, top.components)


def unhindered(
    graph: HardwareGraph, plan: Plan, chip: Device, parts: Parts
) -> tuple[Plan, Top, Model]:
    """The plan, its design, and its cycle model. Where blocks without multipliers are so narrow
    that they keep others from what the plan asks for, they are wider, as little as will do."""
    enough = max(plan.cycles, plan.foldings[plan.slowest].cycles)
    best = plan, *queued(graph, plan, chip, parts)
    least = best_interval(best[2])
    for part in WIDER:
        if least <= enough:
            break
        wider = widened(graph, plan, plan.cycles // part)
        if wider == best[0]:
            continue
        found = wider, *queued(graph, wider, chip, parts)
        interval = best_interval(found[2])
        if interval < least:
            best, least = found, interval
    return best


def queued(graph: HardwareGraph, plan: Plan, chip: Device, parts: Parts) -> tuple[Top, Model]:
    """The design of a plan, and its cycle model, with queues on those links to where streams meet
    that need one, for without it they would keep each other from what the plan asks for; as few as
    will do."""

    def tried(before: Sequence[Link]) -> tuple[Top, Model]:
        return modelled(graph, plan, chip, before, parts)

    enough = max(plan.cycles, plan.foldings[plan.slowest].cycles)
    links, alone = joining(graph), tried(())
    if not links or best_interval(alone[1]) <= enough:
        return alone
    best = tried(links)
    if best_interval(best[1]) >= best_interval(alone[1]):
        return alone
    enough = max(enough, best_interval(best[1]))
    size = len(links)
    while size > 1:
        size = ceil_div(size, 2)
        for at in reversed(range(0, len(links), size)):
            fewer = links[:at] + links[at + size :]
            less = tried(fewer)
            if best_interval(less[1]) <= enough:
                links, best = fewer, less
    return best


def at_rate(
    graph: HardwareGraph,
    chip: Device,
    fps: float,
    lanes: int | None,
    clock_mhz: float,
    parts: Parts,
    tell: Tell = quiet,
) -> tuple[Plan, Top, Schedule]:
    """The cheapest design whose predicted interval meets the rate.

    Blocks disturb each other a little, so the plan aims lower when the prediction is short of it.
    Raises BuildError where that takes more multipliers than `lanes`, or where even the fastest
    folding of every block is short of the rate.
    """
    cycles = clock_mhz * 1e6 / fps
    aim = int(cycles)
    fastest = plan_for_cycles(graph, 1)
    least = fastest.foldings[fastest.slowest].cycles
    free = lanes is None and chip.family != "generic"
    problem = Problem.of(graph, chip) if free else None
    while True:
        plan = plan_for_cycles(graph, aim)
        over = lanes is not None and plan.multipliers > lanes
        plan, top, schedule = (
            scheduled(graph, plan, chip, tell, parts) if over
            else formed(graph, chip, plan, parts, tell) if problem is None
            else solved(problem, routable(chip), plan.cycles, parts, tell)
        )  # fmt: skip
        if schedule.interval <= cycles:
            break
        if aim <= least:
            raise too_fast(graph, plan, schedule.interval, fps, clock_mhz)
        aim = max(least, min(int(aim / 1.005), int(aim * cycles / schedule.interval)))
    if over:
        raise BuildError(
            f"fps must be lower than {fps:g} with {lanes} multipliers: it takes"
            f" {plan.multipliers}, and layer {graph.blocks[plan.slowest].origin!r} is the slowest",
            (Remedy("multipliers", plan.multipliers),),
        )
    return plan, top, schedule
