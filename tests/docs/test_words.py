"""Glossary, refusals and tasks: quoted sentences are the code's, terms are linked, places exist."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from fromcode import commands, refusals

from intaglio.detect.resolve import resolve
from intaglio.errors import IntaglioError

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
TERMS = (
    "PE", "SIMD", "beat", "lane", "stem", "token", "ODOL", "predictor", "M, B, S", "preset",
    "profile", "zero point", "fold", "stall", "skid", "ROM", "trace", "sum", "frame", "accumulator",
)  # fmt: skip


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def quoted() -> list[str]:
    """The refusals that the page quotes."""
    return re.findall(r"^> (.*)$", text("faq.md"), re.MULTILINE)


def test_every_quoted_refusal_is_one_of_the_code() -> None:
    known = refusals.everywhere()
    open_ended = f"; {refusals.GAP}."  # what follows are remedies that fit the case
    wrong = [
        sentence
        for sentence in quoted()
        if sentence not in known
        and not (
            sentence.endswith(open_ended)
            and any(each.startswith(sentence.removesuffix(open_ended)) for each in known)
        )
    ]
    assert wrong == []
    assert len(quoted()) > 30
    assert len(set(quoted())) == len(quoted())


def test_every_refusal_is_followed_by_its_reason() -> None:
    blocks = text("faq.md").split("\n\n")
    for block, after in pairwise(blocks):
        if block.startswith("> "):
            assert len(after.split()) >= 8, block
            assert not after.startswith((">", "#")), block


def test_a_refusal_reads_as_it_is_quoted() -> None:
    pytest.importorskip("torch")
    (sentence,) = (s for s in quoted() if s.startswith("MODEL must be one of"))
    pattern = ".*".join(map(re.escape, sentence.split(refusals.GAP)))
    with pytest.raises(IntaglioError) as refused:
        resolve("no-such-model")
    assert re.fullmatch(pattern, str(refused.value))


def test_terms_have_an_entry_and_pages_link_to_them() -> None:
    entries = re.findall(r"^### (.*)$", text("glossary.md"), re.MULTILINE)
    assert set(TERMS) <= set(entries)
    assert len(entries) == len(set(entries))
    pages = [path for path in (*DOCS.glob("*.md"), ROOT / "README.md") if path.stem != "glossary"]
    linked = {
        place for path in pages
        for place in re.findall(r"glossary\.md#([\w-]+)", path.read_text(encoding="utf-8"))
    }  # fmt: skip
    places = {re.sub(r"[^\w -]", "", entry.lower()).replace(" ", "-") for entry in entries}
    assert linked <= places
    wanted = {re.sub(r"[^\w -]", "", term.lower()).replace(" ", "-") for term in TERMS}
    assert sorted(wanted - linked - {"skid"}) == []


def test_the_index_by_task_has_every_command_and_no_other() -> None:
    named = set(re.findall(r"`intaglio (\w+)`", text("index.md")))
    assert named == set(commands.commands())


def test_every_page_is_in_the_index_by_task() -> None:
    linked = set(re.findall(r"\]\(([\w/]+\.md)", text("index.md").partition("```")[0]))
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert linked == pages | {"decisions/index.md"}
