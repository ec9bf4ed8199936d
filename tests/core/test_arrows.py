"""The import arrows: which room may know which, and who may import torch and Amaranth."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "intaglio"
CORE = {
    "errors", "fixed", "forms", "host", "ops", "program", "file", "summary", "multiplier",
    "channels", "system", "views", "transposed", "gates",
}  # fmt: skip
# Every room, and the rooms whose modules it may import besides its own and the core's.
ROOMS: dict[str, str] = {
    "core": "",
    "sim": "",
    "hdl": "",
    "cosim": "sim hdl",
    "cmodel": "sim",
    "stimulus": "sim",
    "detect.networks": "",
    "detect.heads": "detect.networks",
    "detect": "detect.networks detect.heads",
    "quant.settings": "",
    "quant.capture": "",
    "quant.ranges": "detect quant.settings quant.capture",
    "quant.adjust": "quant.settings quant.capture quant.ranges",
    "quant.search": "detect detect.heads quant.settings quant.capture quant.ranges quant.adjust",
    "quant.widths": "detect quant.settings quant.capture quant.ranges quant.adjust quant.search",
    "quant.learn": "detect quant.settings quant.capture quant.ranges quant.search",
    "quant.lowering": "sim quant.settings quant.capture quant.ranges quant.search",
    "quant": "detect detect.heads quant.settings quant.capture quant.ranges"
    " quant.adjust quant.search quant.widths quant.learn quant.lowering",
    "codegen.area": "hdl",
    "codegen.structure": "hdl cosim codegen.area",
    "codegen.schedule": "sim hdl codegen.structure",
    "codegen.folding": "hdl codegen.area codegen.structure codegen.schedule",
    "codegen.folder": "hdl codegen.area codegen.structure",
    "codegen.running": "sim stimulus hdl cosim codegen.structure codegen.folder",
    "codegen": "sim stimulus hdl codegen.area codegen.structure codegen.schedule codegen.folding"
    " codegen.folder codegen.running",
    "chip": "detect detect.networks hdl cosim codegen.area codegen.structure codegen.folder"
    " codegen.running",
    "report": "codegen.area codegen.structure codegen.schedule codegen.folder",
    "exchange.from_onnx": "sim",
    "exchange.to_onnx": "sim",
    "exchange.to_tosa": "sim",
    "floats": "quant.capture exchange exchange.from_onnx",
    "exchange": "sim exchange.from_onnx exchange.to_onnx exchange.to_tosa",
}
ROOMS["top"] = " ".join(ROOMS)
LONGEST_ROW = 16  # files of a room, hdl's blocks aside
HEAVY = {
    "torch": {"detect", "quant", "floats"},
    "amaranth": {"hdl", "codegen", "chip"},
    "numba": {"sim", "codegen"},
    "onnx": {"exchange", "floats"},
    "onnxruntime": {"exchange"},
    "flatbuffers": {"exchange"},
    "distributed": {"core"},
}
TORCH_FREE = {
    "annotations",
    "decode",
    "draw",
    "coco",
    "evaluate",
    "images",
    "own",
    "pictures",
    "score",
    "seen",
    "spec",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    """The room of a module path below the package."""
    if parts and parts[0] in CORE:
        return "core"
    prefixes = [".".join(parts[:n]) for n in (2, 1)]
    return next((name for name in prefixes if name in ROOMS), "top")


def module_file(module: str) -> Path | None:
    """The source of a module of this package, None for anything else."""
    path = PACKAGE.parent / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


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
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        todo += list(ast.iter_child_nodes(node))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(file: Path) -> None:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    here = room(parts)
    for module in imported(ast.parse(file.read_text(encoding="utf-8"))):
        names = module.split(".")
        if names[0] == "intaglio" and module_file(module) is not None and len(names) > 1:
            there = room(tuple(names[1:]))
            known = {here, "core", *ROOMS[here].split()}
            assert there in known, f"{here} must not import {module}"
        for heavy, rooms in HEAVY.items():
            if names[0] == heavy:
                assert {here, here.partition(".")[0]} & rooms, f"{here} must not import {heavy}"
                assert not (heavy == "torch" and parts[-1] in TORCH_FREE)


def test_no_import_leads_back_to_where_it_started() -> None:
    """Of modules, an import inside a function or for types included."""
    graph: dict[Path, set[Path]] = {}
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = module_file(f"{node.module}.{alias.name}")
                    found.add(whole or module_file(node.module))
            elif isinstance(node, ast.Import):
                found |= {module_file(alias.name) for alias in node.names}
        graph[file] = {path for path in found if path is not None} - {file}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_rooms_are_no_circle_either() -> None:
    order = {name: set(known.split()) for name, known in ROOMS.items() if name != "top"}
    TopologicalSorter(order).prepare()


@pytest.mark.parametrize("folder", sorted({file.parent for file in FILES}), ids=lambda f: f.name)
def test_a_room_says_what_it_is_for_and_is_no_long_row(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert text
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= LONGEST_ROW or folder.name == "hdl"
    parts = folder.relative_to(PACKAGE).parts
    if len(files) > 1 and parts not in ((), ("hdl",), ("cosim",)):
        assert re.search(r"\bin\b.*\bout\b", text, re.DOTALL), "what comes in, what goes out"


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
        (
            ("torch", "amaranth", "PIL", "pycocotools", "sklearn", "scipy"),
            "import intaglio.detect.images, intaglio.diverge, intaglio.cosim.trace",
        ),
        (("torch", "amaranth", "PIL"), "import intaglio.exchange.to_onnx.integer"),
    ],
    ids=["sim", "codegen", "cli", "quant", "cosim", "arrays", "exchange"],
)
def test_each_part_installs_without_the_others(blocked: tuple[str, ...], body: str) -> None:
    script = BLOCKED.format(blocked=blocked, body=body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
