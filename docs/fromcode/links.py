"""What the pages of a built site point at: files and places in them that are not there."""

from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of a page, what it links to, and what a browser loads with it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every element."""
        found = {name: value for name, value in attrs if value is not None}
        self.ids |= {found[name] for name in ("id", "name") if name in found and tag != "meta"}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("link", "script", "img", "object", "iframe", "source"):
            self.loaded += [found[name] for name in ("href", "src", "data") if name in found]


class Site:
    """The pages of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def pages(self) -> dict[Path, Page]:
        """By absolute path."""
        return {file.resolve(): Page(file) for file in sorted(self.folder.rglob("*.html"))}

    def inside(self) -> Iterator[tuple[Page, str]]:
        """Every link to the site itself, and everything that is loaded."""
        for page in self.pages.values():
            yield from ((page, link) for link in page.links if not urlsplit(link).scheme)
            yield from ((page, link) for link in page.loaded)

    def broken(self) -> list[str]:
        """`page: link` where nothing is at its end."""
        found = []
        for page, link in self.inside():
            parts = urlsplit(link)
            target = (page.file.parent / unquote(parts.path)).resolve() if parts.path else page.file
            there = self.pages.get(target.resolve())
            place = unquote(parts.fragment)
            if (
                parts.scheme or parts.netloc or not target.is_file()
                or (place and there is not None and place not in there.ids)
            ):  # fmt: skip
                found.append(f"{page.file.relative_to(self.folder)}: {link}")
        return found
