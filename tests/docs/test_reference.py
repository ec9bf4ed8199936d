"""Every public name, command and option has its entry, counted against the code."""

import dataclasses
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer.main
from fromcode import commands
from fromcode.docstrings import marked
from inventory import entries, names

import intaglio
from intaglio import cosim, ops
from intaglio.cli.app import app
from intaglio.detect.decode import decode
from intaglio.detect.networks.kinds import FORMS, OF_SOME, Kind
from intaglio.detect.networks.spec import HeadSpec
from intaglio.errors import ModelError

DOCS = Path(__file__).parent.parent.parent / "docs"
pytestmark = pytest.mark.xdist_group("site")


def visible() -> dict[str, list[Any]]:
    """Every command's parameters as Typer has them, hidden ones left out."""
    group: Any = typer.main.get_command(app)
    return {
        name: [p for p in command.params if not getattr(p, "hidden", False)]
        for name, command in group.commands.items()
        if not command.hidden
    }


def test_every_command_and_option_has_its_entry(site: Path) -> None:
    found = entries(site, "std:cmdoption")
    wanted = {
        f"intaglio-{command}.{word}"
        for command, params in visible().items()
        for param in params
        for word in (
            (*param.opts, *param.secondary_opts)
            if param.param_type_name == "option"
            else [param.metavar or param.name.upper()]
        )
    }
    group: Any = typer.main.get_command(app)
    wanted |= {f"intaglio.{word}" for param in group.params for word in param.opts}
    assert wanted == found
    assert len(visible()) >= 16
    assert len(wanted) > 150
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert [name for name in visible() if f'<section id="{name}">' not in page] == []


def test_defaults_and_choices_are_those_of_the_commands() -> None:
    shown = {name: list(commands.settings(c)) for name, c in commands.commands().items()}
    for name, params in visible().items():
        assert len(params) == len(shown[name])
        for param, setting in zip(params, shown[name], strict=True):
            assert setting.required == param.required, (name, param.name)
            if not param.required and param.default not in (None, False, (), []):
                default = getattr(param.default, "value", param.default)
                assert f"Default: `{default}`." in commands.described(setting)
    (method,) = (s for s in shown["quantize"] if "--method" in s.names)
    assert method.choices == ("detptq", "lp", "mse", "minmax", "percentile", "kl")
    assert "One of `detptq`, `lp`," in commands.described(method)


def public(module: str) -> set[str]:
    """Functions and classes that a module defines, without an underscore."""
    return {
        f"{module}.{name}"
        for name, found in vars(import_module(module)).items()
        if not name.startswith("_")
        and (inspect.isfunction(found) or inspect.isclass(found))
        and found.__module__ == module
    }


def test_every_public_name_has_its_entry(site: Path) -> None:
    found = names(site)
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    whole = re.findall(r"automodule:: (\S+)\n   :members:\n(?:   :exclude-members: (.*)\n)?", text)
    assert len(whole) > 12
    wanted = {f"intaglio.{name}" for name in intaglio.__all__}
    wanted |= {f"intaglio.ops.{op.__name__}" for op in ops.OPS}
    wanted |= {f"intaglio.quant.{name}" for name in import_module("intaglio.quant").__all__}
    wanted |= {f"{getattr(cosim, name).__module__}.{name}" for name in cosim.__all__}
    for module, left in whole:
        wanted |= public(module) - {f"{module}.{name}" for name in left.split(", ")}
    assert sorted(wanted - found) == []
    assert len(wanted) > 120


def test_the_page_about_heads_has_every_field_and_kind() -> None:
    text = (DOCS / "heads.md").read_text(encoding="utf-8")
    table = text.partition("## Fields")[2].partition("## Maps")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", table, re.MULTILINE))
    fields = {field.name: field for field in dataclasses.fields(HeadSpec)}
    assert list(rows) == list(fields)
    for name, field in fields.items():
        if isinstance(field.default, float | int):
            assert rows[name] == str(field.default)
    boxes = text.partition("## Boxes")[2]
    assert set(re.findall(r"`(\w+)` \|", boxes.replace("| | ", "| "))) == set(get_args(Kind))
    for kind, form in FORMS.items():
        assert set(form.needs + form.takes) == {
            name for name, row in described(table) if f"`{kind}`" in row and name in OF_SOME
        }


def described(table: str) -> list[tuple[str, str]]:
    """Fields and what a table says of them."""
    return re.findall(r"^\| `(\w+)` \| (.*) \| .* \|$", table, re.MULTILINE)


def test_the_specs_on_the_page_about_heads_hold() -> None:
    text = (DOCS / "heads.md").read_text(encoding="utf-8")
    specs = []
    for code in re.findall(r"```python\n(HeadSpec.*?)```", text, re.DOTALL):
        for part in re.split(r"\n(?=HeadSpec)", code):
            specs.append(eval(part, {"HeadSpec": HeadSpec}))
    kinds = {spec.kind for spec in specs}
    assert kinds == set(get_args(Kind)) - {"fcos", "yolov3"}  # the example is the one


def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class that docs/heads.md shows."""
    text = (DOCS / "heads.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    space: dict[str, Any] = {"__name__": "cats"}
    exec(compile(code, "heads.md", "exec"), space)
    monkeypatch.setitem(sys.modules, "cats", type(sys)("cats"))
    return space["Cats"]


def test_the_example_of_a_head_is_quantised_and_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = example(monkeypatch)().eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 96), dtype=np.uint8)
    program = intaglio.quantize(model, images)
    spec = HeadSpec.from_json(program.meta["head"])
    assert spec == model.head_spec
    maps = intaglio.Simulator(program).run_dequantised(images)
    found = decode(spec, [each[0] for each in maps], (64, 96))
    assert len(found.boxes) == len(found.scores)
    assert set(found.labels) <= {0, 1}


def test_a_head_spec_of_another_kind_is_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    model = example(monkeypatch)().eval()
    model.head_spec = {"kind": "fcos"}
    images = np.zeros((1, 3, 64, 96), np.uint8)
    with pytest.raises(ModelError) as refused:
        intaglio.quantize(model, images)
    assert str(refused.value) == (
        "A model's head_spec must be a HeadSpec of intaglio.detect.networks.spec, not dict:"
        " HeadSpec('fcos', classes=('cat', 'dog'), strides=(8, 16))."
    )


def test_docstrings_become_markup() -> None:
    given = ["One | two * three_ of `a*b`.", "", "name    what it is,", "        and more",
             "other   `x`", "", "    code here", "", "- item", "  goes on"]  # fmt: skip
    assert marked(given) == [
        "One \\| two \\* three\\_ of `a*b`.", "",
        "``name``", "    what it is,", "    and more", "``other``", "    `x`", "",
        "::", "", "    code here", "",
        "- item", "  goes on", "",
    ]  # fmt: skip
