"""The page of operators: every one that the code knows stands there, is accepted, and no other."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fromcode import operators, refusals
from fromcode.samples import EXPORTS, quantised, sample
from torch import nn
from torch.nn import functional

from intaglio import ops
from intaglio.codegen.area.devices import DEVICES
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.errors import BuildError, IntaglioError, ModelError
from intaglio.exchange.from_onnx.door import INSTEAD, admit
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.operators import QONNX, TABLE, Attribute
from intaglio.fixed import PRESETS
from intaglio.program import Program
from intaglio.quant.capture.aten import REMEDIES, TRANSLATIONS
from intaglio.quant.capture.export import capture
from intaglio.sim import reference

pytestmark = pytest.mark.xdist_group("site")


def shown(site: Path) -> list[list[str]]:
    """Words in code in the first cell of every row of the page."""
    text = (site / "operators.html").read_text(encoding="utf-8")
    cells = re.findall(r"<tr[^>]*><td>(.*?)</td>", text, re.DOTALL)
    return [re.findall(r'<span class="pre">(.*?)</span>', cell) for cell in cells]


def test_every_operator_has_its_entry(site: Path) -> None:
    found = [word for row in shown(site) for word in row]
    kinds = {(row.domain, row.kind) for row in TABLE}
    wanted = [*TRANSLATIONS, *REMEDIES, *(kind for _, kind in kinds), *INSTEAD]
    wanted += [*operators.of_tflite()]
    wanted += [op.__name__ for op in ops.OPS] + [*PRESETS, *DEVICES]
    assert sorted(found) == sorted(wanted)
    assert len(wanted) > 160


def test_every_version_attribute_and_input_of_onnx_has_its_entry() -> None:
    for domain in {row.domain for row in TABLE}:
        rows = {line[0].strip("`"): line for line in operators.of_onnx(domain)}
        for row in (row for row in TABLE if row.domain == domain and not row.refused):
            _, versions, inputs, *columns = rows[row.kind]
            assert {str(v) for v in row.versions} <= set(versions.split(", ")), row.kind
            assert [i.name for i in row.inputs if i.name not in inputs] == []
            for attribute in row.attributes:
                assert sum(f"`{attribute}`" in column for column in columns) == 1, row.kind


class Alone(nn.Module):
    """One function of a map."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.stem, self.function = nn.Conv2d(3, 4, 1), function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.stem(x))


class Behind(Alone):
    """The same with a layer behind it, so that it is no decoding."""

    def forward(self, x: torch.Tensor) -> Any:
        y = super().forward(x).flatten(1)
        return functional.linear(y, torch.ones(5, y.shape[1]))


WEIGHT = torch.ones(2, 4, 3, 3)
# One call for operations of the page, by the name under which export writes them.
TAKEN: dict[str, Any] = {
    "conv2d": lambda x: functional.conv2d(x, WEIGHT),
    "linear": lambda x: functional.linear(x.flatten(1), torch.ones(2, 4 * 8 * 8)),
    "batch_norm": nn.BatchNorm2d(4).eval(),
    "relu": functional.relu, "relu6": functional.relu6, "hardtanh": functional.hardtanh,
    "clamp": lambda x: x.clamp(-1, 2), "clamp_min": lambda x: torch.clamp_min(x, 0.5),
    "clamp_max": lambda x: torch.clamp_max(x, 0.5), "add": lambda x: x + functional.relu(x),
    "sub": lambda x: x - 1, "rsub": lambda x: 1 - x, "neg": lambda x: -x, "mul": lambda x: x * 3,
    "div": lambda x: x / 3, "max_pool2d": lambda x: functional.max_pool2d(x, 2),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, 2),
    "adaptive_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, 2),
    "mean": lambda x: x.mean((2, 3)), "upsample_nearest2d": nn.Upsample(scale_factor=2),
    "upsample_bilinear2d": nn.Upsample(scale_factor=2, mode="bilinear"),
    "cat": lambda x: torch.cat([x, functional.relu(x)], 1),
    "pad": lambda x: functional.pad(x, (1, 1, 1, 1)), "dropout": nn.Dropout().eval(),
    "flatten": lambda x: x.flatten(1), "detach": lambda x: x.detach(),
    "silu": functional.silu, "hardswish": functional.hardswish, "sigmoid": torch.sigmoid,
    "hardsigmoid": functional.hardsigmoid, "leaky_relu": functional.leaky_relu,
    "prelu": nn.PReLU(), "tanh": torch.tanh, "gelu": functional.gelu, "elu": functional.elu,
    "selu": functional.selu, "celu": functional.celu, "mish": functional.mish,
    "softplus": functional.softplus, "exp": torch.exp,
    "conv_transpose2d": nn.ConvTranspose2d(4, 4, 2),
    "slice": lambda x: x[:, 1:3], "select": lambda x: x.select(1, 2)[:, None],
    "chunk": lambda x: x.chunk(2, 1)[1], "split": lambda x: x.split(2, 1)[0],
    "unbind": lambda x: x.unbind(1)[1][:, None], "index": lambda x: x[:, [1, 0]],
    "pixel_shuffle": lambda x: functional.pixel_shuffle(x, 2), "flip": lambda x: x.flip(1),
    "pixel_unshuffle": lambda x: functional.pixel_unshuffle(x, 2),
    "permute": lambda x: x.permute(0, 2, 3, 1), "transpose": lambda x: x.transpose(1, 2),
}  # fmt: skip
REFUSED: dict[str, Any] = {
    "softmax":
    lambda x: functional.conv2d(x.softmax(1), WEIGHT),
    "group_norm": nn.GroupNorm(2, 4), "upsample_bicubic2d":
    lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"), "sin": torch.sin,
    "cumsum": lambda x: x.cumsum(1), "sort":
    lambda x: functional.conv2d(x.sort(1)[0], WEIGHT),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_a_listed_operation_of_torch_is_taken(name: str) -> None:
    assert name in TRANSLATIONS
    assert capture(Alone(TAKEN[name]).eval(), (3, 8, 8)).nodes


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_of_torch_that_is_not_listed_is_refused(name: str) -> None:
    assert name not in TRANSLATIONS
    with pytest.raises(ModelError) as refused:
        capture(Behind(REFUSED[name]).eval(), (3, 8, 8))
    assert f"aten.{name}" in str(refused.value)
    assert REMEDIES.get(name, "it has no integer form") in str(refused.value)


def legal(attribute: Attribute) -> Any:
    """A value that an attribute may have."""
    if attribute.values:
        value = attribute.values[0]
        return value.encode() if isinstance(value, str) else value
    return {"int": 1, "ints": [1], "float": 1.0, "floats": [1.0]}[attribute.kind]


def node(kind: str, domain: str, inputs: int, attributes: dict[str, Any]) -> Node:
    """A node of one output."""
    names = tuple(f"x{n}" for n in range(inputs))
    return Node(kind, domain, "n", names, ("y",), attributes)


def test_what_the_page_lists_of_onnx_is_admitted_and_nothing_else() -> None:
    for row in TABLE:
        given = {n: legal(a) for n, a in row.attributes.items() if a.required}
        most = len(row.inputs)
        for version in row.versions:
            opsets = {row.domain: max(version, 7) if row.domain == "" else version}
            if row.domain == "" and version < 7 and len(row.versions) > 1:
                continue  # read as the first of those that sets from 7 on know
            each = node(row.kind, row.domain, most, given)
            if row.refused:
                with pytest.raises(ModelError):
                    admit(each, opsets)
                continue
            admit(each, opsets)
            with pytest.raises(ModelError, match="its attribute 'unheard_of' must be one of"):
                admit(node(row.kind, row.domain, most, given | {"unheard_of": 1}), opsets)
    for kind in ("Softmax", "GRU", "Einsum", *INSTEAD):
        with pytest.raises(ModelError):
            admit(node(kind, "", 1, {}), {"": 17})
    with pytest.raises(ModelError):
        admit(node("FloatQuant", QONNX, 1, {}), {QONNX: 1})


@dataclass(frozen=True, kw_only=True)
class Sine(ops.Unary):
    """An operation that nobody has a rule for."""

    def infer(self, inputs: Any, context: Any) -> Any:
        (x,) = inputs
        return x.shape, x.lo, x.hi


def strange() -> Program:
    """The sample of a Lookup with another operation in its place."""
    program = sample(ops.Lookup)
    changed = tuple(
        Sine(output=op.output, input=op.input) if isinstance(op, ops.Lookup) else op
        for op in program.ops
    )
    return Program(changed, program.tensors, program.constants)


def test_the_executions_know_what_the_page_says_and_no_more() -> None:
    known = {kind.__name__ for kind in ops.OPS}
    for name, rules in operators.executions().items():
        assert rules & known == known, name
    program = strange()
    with pytest.raises(BuildError, match="Sine 'made' must be an operation that has a hardware"):
        hardware_graph(program)
    with pytest.raises(TypeError, match="Sine"):
        reference.execute(program.ops[1], [], program)
    for form in EXPORTS:
        with pytest.raises((TypeError, IntaglioError)):
            form.write(Program(program.ops, program.tensors, program.constants,
                               PRESETS[form.preset]))  # fmt: skip


def test_every_operation_goes_out_in_every_form() -> None:
    assert operators.NO not in operators.targets()


def test_a_preset_that_goes_nowhere_is_refused_and_others_are_taken() -> None:
    rows = [line.strip("| ").split(" | ") for line in operators.presets().splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == list(PRESETS)
    for name, *_, hardware, integer, qlinear, qdq, tosa, tflite in rows:
        float32 = PRESETS[name.strip("`")].product == "single"
        assert [hardware, integer, qlinear, qdq] == (
            ["no", "no", "yes", "yes"] if float32 else ["yes", "yes", "no", "no"]
        )
        forms = PRESETS[name.strip("`")].forms
        assert tosa == ("yes" if forms != "own" else "no")
        assert tflite == ("yes" if forms == "tflite" else "no")
    with pytest.raises(BuildError):
        hardware_graph(quantised("onnxruntime"))


def test_refusals_are_read_from_the_source() -> None:
    found = refusals.of(TRANSLATIONS["avg_pool2d"])
    assert found[0].startswith("padded average pooling must have count_include_pad=True")
    assert "the output …x… must divide the map …x…; use a fixed kernel." not in found
    assert refusals.of(TRANSLATIONS["adaptive_avg_pool2d"]) == [
        "the output …x… must divide the map …x…; use a fixed kernel."
    ]
