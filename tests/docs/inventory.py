"""What a built site has an entry for."""

import re
import zlib
from pathlib import Path

LINE = re.compile(r"(?P<name>.+?) (?P<kind>\w+:[\w-]+) -?\d+ \S* .*")


def entries(site: Path, kind: str) -> set[str]:
    """Names of a kind ("std:cmdoption", "py:function") in `objects.inv`."""
    data = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    found = map(LINE.fullmatch, zlib.decompress(data).decode().splitlines())
    return {line["name"] for line in found if line is not None and line["kind"] == kind}


def names(site: Path) -> set[str]:
    """Of everything of Python."""
    kinds = ("function", "class", "exception", "method", "property", "attribute", "data", "module")
    return {name for kind in kinds for name in entries(site, f"py:{kind}")}
