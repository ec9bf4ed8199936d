"""What `verify` leaves beside its sentence: a waveform, and JUnit XML."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from networks import skip
from seeded import FAULTS, small
from tools import Cli, needs, refused

from intaglio.codegen.bundle import build
from intaglio.codegen.running.noted import read_recordings

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("verilator")]

# What the schema of Jenkins' xUnit plugin (junit-10.xsd) has of the elements that are written:
# attributes that must be there, others, and elements inside.
SCHEMA = {
    "testsuites": ((), ("name", "time", "tests", "failures", "errors"), ("testsuite",)),
    "testsuite": (
        ("name", "tests", "failures", "errors"), ("time", "skipped", "timestamp", "hostname", "id"),
        ("properties", "testcase", "system-out"),
    ),
    "properties": ((), (), ("property",)),
    "property": (("name", "value"), (), ()),
    "testcase": (("name",), ("time", "classname"), ("skipped", "failure")),
    "failure": ((), ("type", "message"), ()),
    "skipped": ((), ("type", "message"), ()),
    "system-out": ((), (), ()),
}  # fmt: skip


def check_schema(element: ElementTree.Element) -> None:
    """An element and all inside it are as the schema has them."""
    needed, others, inside = SCHEMA[element.tag]
    assert set(needed) <= set(element.attrib) <= {*needed, *others}, element.tag
    for child in element:
        assert child.tag in inside, (element.tag, child.tag)
        check_schema(child)


def suite_of(path: Path) -> ElementTree.Element:
    """The one suite of a JUnit file, whose numbers are those of its tests."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    check_schema(root)
    (suite,) = root
    cases = suite.findall("testcase")
    assert suite.get("tests") == root.get("tests") == str(len(cases))
    assert suite.get("failures") == root.get("failures") == str(len(suite.findall(".//failure")))
    assert suite.get("skipped") == str(len(suite.findall(".//skipped")))
    assert len({case.get("name") for case in cases}) == len(cases)
    return suite


def beats_in(wave: str, name: str) -> int:
    """Beats of a stream of the bench in a VCD file: valid and ready at a rising clock, no reset."""
    head, _, body = wave.partition("$enddefinitions $end")
    scope = head[head.index("module bench") :]
    code = {
        wire: re.search(rf"\$var \w+ +1 (\S+) {wire} ", scope)[1]  # type: ignore[index]
        for wire in ("clk", "reset", f"{name}_tvalid", f"{name}_tready")
    }
    now, before, beats = dict.fromkeys(code.values(), "x"), dict[str, str](), 0
    for step in re.split(r"^#\d+$", body, flags=re.M):
        before = dict(now)  # what registers see at an edge of this step
        now |= {line[1:]: line[0] for line in step.splitlines() if line[1:] in now}
        if before[code["clk"]] == "0" and now[code["clk"]] == "1":
            beats += [before[code[w]] for w in list(code)[1:]] == ["0", "1", "1"]
    return beats


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_a_waveform_has_every_beat(cli: Cli, tmp_path: Path, simulator: str) -> None:
    needs(simulator)
    build(skip(), lanes=40).write("b")
    code, out, err = cli("verify", "b", "--simulator", simulator, "--wave", "w.vcd", "--frames", 3)
    assert code == 0, out + err
    told = read_recordings(tmp_path / "b" / "sim" / "out0.txt")
    taken = beats_in((tmp_path / "w.vcd").read_text(), "m_axis_out0")
    assert taken == sum(len(run.data) for run in told.values()) >= 3 * 5 * 30


def test_icarus_writes_fst(cli: Cli, tmp_path: Path) -> None:
    """Its header block comes first: number 0, 329 bytes, and the writer's name further on."""
    needs("icarus")
    build(skip(), lanes=40).write("b")
    words = ("verify", "b", "--simulator", "icarus", "--frames", 1, "--wave", "w.fst")
    assert cli(*words)[0] == 0
    data = (tmp_path / "w.fst").read_bytes()
    assert data[:9] == bytes([0]) + (329).to_bytes(8, "big")
    assert not (tmp_path / "b" / "sim" / "wave.fst").exists()


def test_a_waveform_that_cannot_be_written_is_refused(cli: Cli, tmp_path: Path) -> None:
    build(skip()).write("b")
    other = "; with --simulator icarus .fst too"
    for words, sentence in (
        (("--wave", "w.fst"), f"--wave must end in .vcd with verilator, not w.fst{other}."),
        (("--wave", "w"), f"--wave must end in .vcd with verilator, not w{other}."),
        (("--wave", "w.lxt", "--simulator", "icarus"),
         "--wave must end in .fst or .vcd with icarus, not w.lxt."),
        (("--wave", "w.vcd", "--gates"), "--wave must go without --gates."),
        (("--junit", "j.xml", "--gates"), "--junit must go without --gates."),
        (("--junit", "b/manifest.json"), "b/manifest.json"),
    ):  # fmt: skip
        refused(cli("verify", "b", *words), sentence)
    assert not list(tmp_path.glob("w*"))


def test_junit_has_every_judgement(cli: Cli, tmp_path: Path) -> None:
    needs("icarus")
    made = build(small(), lanes=60, target="generic")
    made.write("b")
    words = ("verify", "b", "--simulator", "icarus", "--seed", 3, "--junit")
    assert cli(*words, "right.xml")[0] == 0
    files = {path: data.decode() for path, data in made.files.items()
             if path.startswith(("rtl/", "rom/"))}  # fmt: skip
    FAULTS["05 two words of weights swapped"](files)
    for path, text in files.items():
        (tmp_path / "b" / path).write_text(text)
    code, out, err = cli(*words, "wrong.xml")
    assert code == 1, err
    right, wrong = suite_of(tmp_path / "right.xml"), suite_of(tmp_path / "wrong.xml")
    names = [case.get("name") for case in right.findall("testcase")]
    assert names == [case.get("name") for case in wrong.findall("testcase")]
    for suite in right, wrong:
        assert {p.get("name"): p.get("value") for p in suite.iter("property")}["seed"] == "3"
    assert (right.get("failures"), right.get("skipped")) == ("0", "0")
    failed = {case.get("name") for case in wrong.findall("testcase") if case.find("failure") is not
              None}  # fmt: skip
    assert failed
    assert failed <= {f"beats of out{n}" for n in range(6)}
    passed_over = {case.get("name") for case in wrong if case.find("skipped") is not None}
    assert passed_over == {"cycles", "files as built"}
    assert re.search(r": at least [\d,]+ differ, first out", out)
    assert out.splitlines()[0] in (wrong.findtext("system-out") or "")
