"""A verification as JUnit XML, which CI servers show: every judgement is a test."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from intaglio.codegen.running.result import VerifyResult

Case = tuple[str, str, str]  # name; what is wrong, and why it was not judged: else ""


def junit(result: VerifyResult, name: str) -> str:
    """A `testsuites` of one suite, `name`: the beats and the protocol of every stream, the cycles,
    and the files, which are skipped where they are not those that were built."""
    cases = list(judgements(result))
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(1 for _, wrong, _ in cases if wrong)),
        "errors": "0",
    }
    root = ElementTree.Element("testsuites", counts)
    skipped = str(sum(1 for _, _, why in cases if why))
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": name, **counts, "skipped": skipped, "time": str(result.seconds)}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key in ("simulator", "frames", "runs", "beats", "seed", "stalls"):
        value = str(getattr(result, key))
        ElementTree.SubElement(properties, "property", {"name": key, "value": value})
    for case, wrong, why in cases:
        made = ElementTree.SubElement(suite, "testcase", {"name": case, "classname": name})
        if wrong:
            ElementTree.SubElement(made, "failure", {"message": wrong})
        elif why:
            ElementTree.SubElement(made, "skipped", {"message": why})
    lines = [result.sentence(), result.where(), result.state()]
    ElementTree.SubElement(suite, "system-out").text = "\n".join(filter(None, lines))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def judgements(result: VerifyResult) -> Iterator[Case]:
    """In the order of `VerifyResult`."""
    for one in result.outputs:
        wrong = f"{one.mismatches:,} differ, first {one.first.sentence()}" if one.first else ""
        yield f"beats of {one.tensor}", wrong, ""
    seen = [one.tensor for one in result.outputs]
    broken = {rule.tensor: rule for rule in reversed(result.broken)}  # the first of each
    for tensor in [*seen, *(other for other in broken if other not in seen)]:
        yield f"protocol of {tensor}", broken[tensor].sentence() if tensor in broken else "", ""
    yield "cycles", *in_cycles(result)
    yield "files as built", "", result.state() if result.changed else ""


def in_cycles(result: VerifyResult) -> tuple[str, str]:
    """What is wrong with them, and why they were not judged."""
    if result.cycles == "ignore":
        return "", "they are ignored"
    if result.unpredicted is not None:
        return result.unpredicted.sentence(), ""
    if not result.in_time:
        rates = result.cycles_per_frame, result.predicted_cycles_per_frame
        return f"{rates[0]:,} cycles a frame, predicted {rates[1]:,}", ""
    measured = result.latency_cycles is not None
    return "", "" if measured else "no run without pauses was right"
