"""results/hw.json: one key for each hardware benchmark, written one at a time."""

import json
from pathlib import Path
from typing import Any

from intaglio.system.disk import write_text

HW_JSON = Path(__file__).parent.parent / "results" / "hw.json"


def put(key: str, value: Any, path: Path = HW_JSON) -> None:
    """Set one key, keeping the others."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[key] = value
    write_text(path, json.dumps(dict(sorted(found.items())), indent=1) + "\n")
