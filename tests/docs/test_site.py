"""The documentation as a site: no warning, no broken link, nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from fromcode import PARTS, PLACE
from fromcode.links import Site

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
pytestmark = pytest.mark.xdist_group("site")


def test_no_link_is_broken_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    whole = Site(site)
    assert whole.broken() == []
    links = list(whole.inside())
    assert len(whole.pages) > 40
    assert len(links) > 1000


def test_a_broken_link_is_found(site: Path, tmp_path: Path) -> None:
    (tmp_path / "there.html").write_text('<p id="here">', encoding="utf-8")
    links = ["there.html#here", "there.html#nowhere", "gone.html", "#gone", "page.html",
             "https://example.org/x"]  # fmt: skip
    text = " ".join(f'<a href="{link}">x</a>' for link in links)
    loaded = '<script src="https://example.org/x.js"></script>'
    (tmp_path / "page.html").write_text(text + loaded, encoding="utf-8")
    assert Site(tmp_path).broken() == [
        "page.html: there.html#nowhere", "page.html: gone.html", "page.html: #gone",
        "page.html: https://example.org/x.js",
    ]  # fmt: skip


def test_every_page_of_docs_stands_in_the_site(site: Path) -> None:
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md")]
    assert [str(p) for p in pages if not (site / p.with_suffix(".html")).is_file()] == []
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert [str(p) for p in pages if f'"{p.with_suffix("")}"' not in index] == []


def test_what_comes_from_the_code_stands_in_one_page_each(site: Path) -> None:
    places = [name for path in DOCS.rglob("*.md") for name in PLACE.findall(path.read_text())]
    assert sorted(places) == sorted(PARTS)
    assert [p.name for p in site.rglob("*.html") if PLACE.search(p.read_text())] == []


def test_readme_links_to_the_pages(site: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((docs/[^)#]+\.md)", text)
    assert len(set(linked)) > 10
    assert [path for path in linked if not (ROOT / path).is_file()] == []
