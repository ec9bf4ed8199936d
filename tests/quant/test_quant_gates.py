"""Gates of torch: captured, calibrated, lowered, fake-quantised, trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import pixels
from torch import nn
from torch.nn import functional

from intaglio.errors import ModelError, ProgramError
from intaglio.exchange.runtime import run_onnx
from intaglio.exchange.to_onnx.quantised import to_quantised
from intaglio.fixed import PRESETS
from intaglio.ops import Lookup, Multiply, Requant, Upsample
from intaglio.quant import QuantConfig, quantize
from intaglio.quant.capture import graph as captured
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.passes import simplify
from intaglio.quant.learn.aqd import TrainedNetwork
from intaglio.quant.lowering.exact import integers
from intaglio.quant.lowering.lower import lower
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)
SHAPE = (3, 8, 12)
Function = Callable[[torch.Tensor], torch.Tensor]


class SqueezeExcite(nn.Module):
    """As MobileNetV3 and EfficientNet have it."""

    def __init__(self, channels: int, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.gate = gate or nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.up(torch.relu(self.down(self.pool(x)))))


class Linears(nn.Module):
    """The same of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.dense(x.mean((2, 3))).view(-1, 8, 1, 1)


class Between(nn.Module):
    """Between two convolutions."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.inner = nn.Conv2d(3, 8, 3, padding=1), inner
        self.after = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(torch.relu(self.before(x))))


class Spatial(nn.Module):
    """A gate for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(8, 1, 3, padding=1), nn.BatchNorm2d(8)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.uniform_(self.norm.bias, -0.5, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.sigmoid(self.one(x)) * x) * 0.5


class Coordinates(nn.Module):
    """A gate for each row times one for each column."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.Conv2d(8, 8, (1, 12)), nn.Conv2d(8, 8, (8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.rows(x)) * torch.sigmoid(self.columns(x))


class Outer(nn.Module):
    """Channels times pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True) * self.one(x)


CASES: dict[str, tuple[Callable[[], Any], int, int]] = {
    "squeeze and excite": (lambda: SqueezeExcite(8), 1, 0),
    "by sigmoid": (lambda: SqueezeExcite(8, nn.Sigmoid()), 1, 0),
    "of matrices": (Linears, 1, 0),
    "for each pixel": (Spatial, 1, 0),
    "by coordinates": (Coordinates, 2, 2),
    "outer": (Outer, 1, 1),
    "two halves": (lambda: lambda x: torch.cat([x[:, :4] * x[:, 4:]] * 2, 1), 1, 0),
    "expanded": (lambda: lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x), 1, 1),
}


def built(name: str) -> tuple[nn.Module, int, int]:
    make, products, enlarged = CASES[name]
    model = Between(make()).eval()
    return model, products, enlarged


@pytest.mark.parametrize("name", CASES)
def test_the_graph_multiplies_as_torch_does(name: str) -> None:
    model, products, enlarged = built(name)
    graph = capture(model, SHAPE)
    nodes = graph.nodes
    assert sum(isinstance(n, captured.Multiply) for n in nodes) == products
    assert sum(isinstance(n, captured.Upsample) for n in nodes) == enlarged
    images = torch.from_numpy(pixels(SHAPE, 2)).double()
    want = model.double()(images / 255)
    for each in (graph, simplify(graph)):
        (got,) = run(each, images).values()
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_norms_and_factors_behind_a_gate_join_it() -> None:
    graph = simplify(capture(Between(Spatial()).eval(), SHAPE))
    kinds = [type(node).__name__ for node in graph.nodes]
    assert kinds == ["Image", "Conv", "Conv", "Lookup", "Multiply", "Conv"]


@pytest.mark.parametrize("preset", ["intaglio", "tflite", "tosa", "onnxruntime"])
@pytest.mark.parametrize("name", ["squeeze and excite", "for each pixel"])
def test_codes_are_those_of_the_fake_quantised_twin(name: str, preset: str) -> None:
    """But for few beside a tie, each fed with the Program's own codes."""
    images = pixels(SHAPE, 4)
    kind = {"wbits": 8, "abits": 8, "output_bits": 8, "arithmetic": PRESETS[preset]}
    config = QuantConfig(method="minmax", **kind)
    made = quantize(built(name)[0], images, config=config)
    theirs = Simulator(made.program, threads=1, trace=True)(images)
    rows = made.differences(theirs, images).rows
    assert max(row.largest_own for row in rows) <= 1
    assert sum(row.own for row in rows) * 500 <= sum(row.values for row in rows)


def test_a_program_of_gates_is_close_to_the_network() -> None:
    model, _, _ = built("squeeze and excite")
    images = pixels(SHAPE, 8)
    made = quantize(model, images, config=QuantConfig(wbits=8, abits=8)).program
    assert [len(made.of_kind(kind)) for kind in (Multiply, Lookup, Upsample)] == [1, 1, 0]
    (product,) = made.of_kind(Multiply)
    assert isinstance(made.consumers[product.output][0], Requant)
    (out,) = made.outputs
    ours = Simulator(made, threads=1)(images)[out.name] * out.scale
    want = model(torch.from_numpy(images).float() / 255).detach().numpy()
    cosine = (ours * want).sum() / np.linalg.norm(ours) / np.linalg.norm(want)
    assert cosine > 0.999


def test_what_does_not_fit_is_refused_in_words() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.last(y[:, :, :2] * y.mean((2, 3)))  # its channels meet columns

    with pytest.raises(ModelError, match="both maps must have one shape, or one of them 1 channel"):
        capture(Flat().eval(), SHAPE)


@pytest.mark.parametrize("qdq", [False, True])
def test_onnxruntime_runs_what_goes_out_to_the_same_integers(qdq: bool) -> None:
    images = pixels(SHAPE, 4)
    config = QuantConfig(
        method="minmax", wbits=8, abits=8, output_bits=8, arithmetic=PRESETS["onnxruntime"]
    )
    program = quantize(built("squeeze and excite")[0], images, config=config).program
    model = to_quantised(program, qdq=qdq)
    kinds = [node.op_type for node in model.graph.node]
    assert ("Mul" if qdq else "QLinearMul") in kinds
    (got,) = run_onnx(model, images.astype(np.int64)).values()
    (out,) = program.outputs
    np.testing.assert_array_equal(got, Simulator(program, threads=1)(images)[out.name])


def test_a_norm_behind_a_gate_does_not_go_out_in_quantised_operators() -> None:
    images = pixels(SHAPE, 4)
    config = QuantConfig(method="minmax", arithmetic=PRESETS["onnxruntime"], output_bits=8)
    program = quantize(built("for each pixel")[0], images, config=config).program
    with pytest.raises(ProgramError, match="a product of two maps must have one factor and no su"):
        to_quantised(program, qdq=True)


class Clamped(nn.Module):
    """A gate without a table, whose codes training can be held against."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.gate, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        gate = self.gate(functional.adaptive_avg_pool2d(x, 1))
        return self.last(x * torch.relu(gate))


def test_a_trained_gate_is_the_simulator_s() -> None:
    images, config = pixels(SHAPE, 4), QuantConfig(wbits=4, abits=4)
    trained = TrainedNetwork(Clamped().eval(), images, config).train()
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.01)
    shown = torch.from_numpy(images).float()
    for made, real in zip(trained(shown), trained.real(shown), strict=True):
        (made - real).pow(2).mean().backward()
    assert all(p.grad is not None for p in trained.shifts)
    optimiser.step()
    graph, scales = trained.eval().exported(images)
    program = lower(graph, scales, config.arithmetic, {})
    ours = Simulator(program, threads=1)(images)
    for name, codes in integers(graph, scales, program, images).items():
        np.testing.assert_array_equal(codes, ours[name])
