"""The import arrows: which room may know which, and who may import torch and Amaranth."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "intaglio"
CORE = {
    "errors", "disk", "fixed", "forms", "ops", "program", "file", "summary", "multiplier", "spread",
    "channels", "spans",
}  # fmt: skip
ROOMS = {
    "core": {"core"},
    "sim": {"core", "sim"},
    "detect": {"core", "detect"},
    "quant": {"core", "sim", "detect", "quant"},
    "hdl": {"core", "hdl"},
    "cosim": {"core", "sim", "hdl", "cosim"},
    "codegen": {"core", "sim", "hdl", "cosim", "codegen"},
    "chip": {"core", "hdl", "cosim", "codegen", "chip"},
    "report": {"core", "codegen", "report"},
    "exchange": {"core", "sim", "exchange"},
}
ROOMS["top"] = {"top", *ROOMS}
HEAVY = {
    "torch": {"detect", "quant"},
    "amaranth": {"hdl", "codegen", "chip"},
    "numba": {"sim", "codegen"},
    "onnx": {"exchange"},
    "onnxruntime": {"exchange"},
    "flatbuffers": {"exchange"},
    "distributed": {"core"},
}
TORCH_FREE = {"decode", "coco", "evaluate", "images", "draw"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    """The room of a module path below the package."""
    if not parts:
        return "top"
    if parts[0] in CORE:
        return "core"
    return parts[0] if parts[0] in ROOMS else "top"


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import that runs, inside functions too."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            if node.module == "intaglio":
                yield from (f"intaglio.{alias.name}" for alias in node.names)
        todo += list(ast.iter_child_nodes(node))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(file: Path) -> None:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    here = room(parts)
    for module in imported(ast.parse(file.read_text(encoding="utf-8"))):
        names = module.split(".")
        if names[0] == "intaglio" and len(names) > 1:
            there = room(tuple(names[1:]))
            assert there in ROOMS[here], f"{here} must not import {module}"
        for heavy, rooms in HEAVY.items():
            if names[0] == heavy:
                assert here in rooms, f"{here} must not import {heavy}"
                assert not (heavy == "torch" and here == "detect" and parts[-1] in TORCH_FREE)


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}:
            raise ImportError(name + ' is not installed here')
sys.meta_path.insert(0, Refuse())
{body}
"""


@pytest.mark.parametrize(
    ("blocked", "body"),
    [
        (("torch", "amaranth", "cocotb", "pycocotools", "PIL"), "import intaglio.sim.engine"),
        (("torch", "pycocotools", "PIL", "sklearn"), "import intaglio.codegen.bundle"),
        (
            ("torch", "amaranth", "cocotb", "distributed"),
            "import intaglio.cli.network, intaglio.cli.hardware",
        ),
        (("amaranth", "cocotb"), "import intaglio.quant, intaglio.detect.zoo"),
        (("torch", "amaranth", "numba", "cocotb"), "import intaglio.cosim"),
        (("torch", "amaranth", "PIL"), "import intaglio.exchange.integer"),
    ],
    ids=["sim", "codegen", "cli", "quant", "cosim", "exchange"],
)
def test_each_part_installs_without_the_others(blocked: tuple[str, ...], body: str) -> None:
    script = BLOCKED.format(blocked=blocked, body=body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
