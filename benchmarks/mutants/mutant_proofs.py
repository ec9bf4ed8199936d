"""Proofs that mutants which `verify` does not find are the design itself, kept as they come."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mutant import Mutant, Sources
from mutant_same import Answer, same

PARTIAL = Path(__file__).resolve().parent.parent / "results" / "partial"
PROOFS = PARTIAL / "mutant-proofs.jsonl"


def proofs() -> dict[tuple[str, str], dict[str, Any]]:
    """Design and mutant to what is known."""
    if not PROOFS.exists():
        return {}
    found = [json.loads(line) for line in PROOFS.read_text(encoding="utf-8").splitlines()]
    return {(one["net"], one["name"]): one for one in found}


def prove(net: str, sources: Sources, mutant: Mutant, limit: int) -> Answer:
    """A proof, and its line."""
    started = time.perf_counter()
    answer, where = same(sources, mutant, limit)
    line = {"net": net, "name": mutant.name, "answer": answer, "where": where,
            "seconds": round(time.perf_counter() - started, 2)}  # fmt: skip
    PARTIAL.mkdir(exist_ok=True)
    with PROOFS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return answer
