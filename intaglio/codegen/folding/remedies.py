"""What helps where a target holds less than a design takes: every change is tried before it is
named, so that a refusal names none that does not work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from intaglio.codegen.area.devices import Device
from intaglio.codegen.folding.candidates import candidates
from intaglio.codegen.folding.design import Design, designed
from intaglio.codegen.folding.estimate import RESOURCES
from intaglio.codegen.structure.fold import plan_for_cycles, rate_of
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.errors import BuildError, FitError, Remedy
from intaglio.ops import Add, Constant, Op, Requant
from intaglio.program import Program
from intaglio.system.steps import Tell, quiet


@dataclass(frozen=True)
class Asked:
    """What a build was asked for; `others` are (remedy, device, clock in MHz) that could take the
    place of the target, the smallest first."""

    program: Program
    chip: Device
    fps: float | None
    lanes: int | None
    clock_mhz: float
    share: bool | None
    others: Sequence[tuple[Remedy, Device, float]] = ()

    def design(self, tell: Tell = quiet) -> Design:
        """Raises BuildError where there is none."""
        return designed(
            self.program, self.chip, self.fps, self.lanes, self.clock_mhz, share=self.share,
            tell=tell,
        )  # fmt: skip

    def found(self) -> Design | None:
        """None where there is none, or hardly any hope of one."""
        if hopeless(self):
            return None
        try:
            return self.design()
        except BuildError:
            return None


def helped(asked: Asked, tell: Tell = quiet) -> Design:
    """The design; where the target holds too little, the refusal names what would help. `tell`
    hears of its making. Raises BuildError.
    """
    try:
        return asked.design(tell)
    except FitError as error:
        tell("remedies")
        found = tuple(remedies(asked))
        if found:
            raise FitError(error.text, found) from None
        raise FitError(
            f"{error.text.rstrip('.')}; no other target or setting of build makes it fit, so that"
            " the network must be smaller."
        ) from None


def remedies(asked: Asked) -> Iterator[Remedy]:
    """Of each setting the change that helps alone, if any does."""
    if asked.fps is not None:
        slower = replace(asked, fps=None).found()
        if slower is not None:
            rate = rate_of(slower.schedule.interval, asked.clock_mhz)
            yield Remedy("fps", None, why=f"{rate:.10g} frames/s")
    if asked.lanes is not None and replace(asked, lanes=None).found() is not None:
        yield Remedy("multipliers", None)
    if asked.share is False and replace(asked, share=None).found() is not None:
        yield Remedy("no-share", None)
    for bits in widths(asked):
        narrow = narrowed(asked.program, bits)
        if narrow is not None and replace(asked, program=narrow).found() is not None:
            yield Remedy("multiplier-bits", bits, command="quantize")
            break
    for remedy, chip, clock_mhz in asked.others:
        if replace(asked, chip=chip, clock_mhz=clock_mhz).found() is not None:
            yield remedy
            break


def hopeless(asked: Asked) -> bool:
    """Whether the slowest folding alone takes half as much again as the target has: then nothing
    is tried, which for a large network takes long. A refusal may so lack a remedy, never have a
    wrong one."""
    graph, chip = hardware_graph(asked.program), asked.chip
    if chip.family == "generic":
        return False
    plan = plan_for_cycles(graph, 1 << 62)
    needs = [
        [c.need for c in candidates(graph, block, chip, (folding,))]
        for block, folding in zip(graph.blocks, plan.foldings, strict=True)
        if block.kind == "conv"
    ]
    return any(
        sum(min(float(getattr(n, name)) for n in each) for each in needs)
        > 1.5 * float(getattr(chip, name))
        for name, _ in RESOURCES
    )


def widths(asked: Asked) -> list[int]:
    """Widths of multipliers M of which a product takes fewer hard multipliers, and that a Program
    can have without loss: none below 16 bits."""
    bits = asked.program.arithmetic.multiplier_bits
    return [wide for wide in sorted(set(asked.chip.dsp), reverse=True) if 16 <= wide < bits]


def narrowed(program: Program, bits: int) -> Program | None:
    """A Program of the same shape with M of so many bits: what quantising again with them gives, as
    far as its hardware's size goes. None where a shift is too small for that."""
    constants, ops = dict(program.constants), list[Op]()
    limit = (1 << (bits - 1)) - 1
    for op in program.ops:
        if isinstance(op, Requant):
            m, b = constants[op.multiplier], constants[op.bias]
            most = int(abs(m.array).max())
            less = max(0, most.bit_length() - (bits - 1))
            if less > min(op.shift):
                return None
            names = [f"{name}>>{less}" for name in op.constants]
            for name, c in zip(names, (m, b), strict=True):
                constants[name] = Constant(name, c.array >> less, c.type)
            shift = tuple(s - less for s in op.shift)
            op = replace(op, multiplier=names[0], bias=names[1], shift=shift)
        elif isinstance(op, Add):
            most = max(abs(op.multiplier_a), abs(op.multiplier_b))
            less = max(0, most.bit_length() - (bits - 1))
            if less > op.shift:
                return None
            op = replace(op, multiplier_a=min(limit, op.multiplier_a >> less),
                         multiplier_b=min(limit, op.multiplier_b >> less),
                         bias=op.bias >> less, shift=op.shift - less)  # fmt: skip
        ops.append(op)
    arithmetic = replace(program.arithmetic, multiplier_bits=bits)
    return replace(program, ops=tuple(ops), constants=constants, arithmetic=arithmetic)
