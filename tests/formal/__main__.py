"""Prove every stream block and rewrite the table of docs/proofs.md: python tests/formal

Results are added to benchmarks/results/formal.json as they come, so that a stopped run goes on
where it stopped; `--anew` forgets them.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

warnings.simplefilter("ignore", UnusedElaboratable)  # blocks asked for their model only

from proofs import PROOFS  # noqa: E402 - the filter comes first
from prove import prove  # noqa: E402 - the filter comes first

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "formal.json"
PAGE = ROOT / "docs" / "proofs.md"
START, END = "<!-- table: python tests/formal -->\n", "<!-- end of table -->\n"


def table(results: dict[str, dict[str, object]]) -> str:
    """The results in the order of `PROOFS`, in Markdown."""
    lines = [
        "| block and shape | holds | in how many cycles | waits | two rounds can pass | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for proof in PROOFS:
        r = results.get(proof.name)
        reach = "every" if proof.depth is None else f"{proof.depth}"
        if r is None or (r["depth"], r["waits"]) != (proof.depth, proof.waits):
            lines.append(f"| {proof.name} | not yet run | {reach} | {proof.waits} | | |")
            continue
        holds, covered = ("yes" if r[key] else "NO" for key in ("holds", "covered"))
        numbers = f"{reach} | {r['waits']} | {covered} | {r['seconds']}"
        lines.append(f"| {proof.name} | {holds} | {numbers} |")
    return "\n".join(lines) + "\n"


def write(results: dict[str, dict[str, object]]) -> None:
    """The results and the page's table."""
    RESULTS.write_text(json.dumps(list(results.values()), indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(START)
    _, after = rest.split(END)
    PAGE.write_text(before + START + table(results) + END + after, encoding="utf-8")


def main() -> int:
    """Run what is missing; 1 when a claim fails or cannot be reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="proofs whose name contains this")
    parser.add_argument("--anew", action="store_true", help="run those that have a result, too")
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    results = {r["name"]: r for r in found}
    bad = 0
    for proof in PROOFS:
        old = results.get(proof.name)
        same = old is not None and (old["depth"], old["waits"]) == (proof.depth, proof.waits)
        if options.only not in proof.name or (same and old["holds"] and not options.anew):
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = prove(proof, Path(folder))
        print(result, flush=True)
        bad += not (result.holds and result.covered)
        results[proof.name] = result.to_json()
        write(results)
    write(results)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
