"""Reports, bias correction and the fake-quantised model's own promises."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import torch
from models import Pyramid, pixels, trained

from intaglio.detect import zoo
from intaglio.quant import QuantConfig, float_predictor, quantize
from intaglio.quant.capture import execute
from intaglio.quant.capture.execute import Visit, compute, tensors
from intaglio.quant.capture.graph import PASSING, Conv, Image, Node
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)


def test_the_report_has_a_row_for_each_requantisation() -> None:
    images = pixels((3, 24, 30), 4)
    done = quantize(trained(Pyramid()), images, QuantConfig(wbits=8, abits=8))
    rows = {row.layer: row for row in done.layers}
    assert list(rows) == [
        n.output for n in done.graph.nodes if not isinstance(n, (Image, *PASSING))
    ]
    for name, row in rows.items():
        assert len(row.cells()) == 9
        assert row.sqnr > 10, name
        assert 0 <= row.clipped < 0.05, name
        assert row.to_json()["layer"] == name
    head = rows["head@1"]
    assert (head.weights, head.codes, head.op) == ("i8", "u8", "Conv")
    assert head.acc_bits == done.program.tensors["head@1.acc"].type.bits
    assert rows["logits"].why == "final map"


def test_differences_are_counted_and_the_first_is_named() -> None:
    images = pixels((3, 24, 30), 2)
    done = quantize(trained(Pyramid()), images)
    theirs = dict(Simulator(done.program, trace=True)(images))
    honest = done.differences(theirs, images)
    assert all(row.largest_own <= 1 for row in honest.rows)
    theirs["down.0"] = theirs["down.0"] + 3
    wrong = done.differences(theirs, images)
    by_name = {row.tensor: row for row in wrong.rows}
    assert by_name["down.0"].differing == by_name["down.0"].values
    assert by_name["down.0"].largest >= 3
    assert by_name["stem.0"].differing == {r.tensor: r for r in honest.rows}["stem.0"].differing
    assert wrong.first is not None
    assert f"{wrong.differing:,} of {wrong.values:,} codes differ" in wrong.markdown()[0]


def test_the_fake_model_gives_what_its_codes_stand_for() -> None:
    images = pixels((3, 24, 30), 3)
    done = quantize(trained(Pyramid()), images)
    codes = done.fake.codes(images)
    for real, tensor in zip(done.fake(images), done.graph.outputs.values(), strict=True):
        grid = done.scales.grids[tensor]
        np.testing.assert_allclose(real, grid.scale * (codes[tensor] - grid.zero_point), rtol=1e-6)


def test_a_head_description_travels_in_the_program() -> None:
    model = zoo.load("fcos-nano")
    meta = quantize(model, pixels((3, 96, 96), 2), QuantConfig(method="minmax")).program.meta
    assert meta["head"] == model.head_spec.to_json()  # type: ignore[operator]  # not a module


def test_bias_correction_restores_every_channels_mean() -> None:
    model, images = trained(Pyramid()), pixels((3, 24, 30), 6)
    plain, done = (
        quantize(model, images, QuantConfig(wbits=2, abits=4, correct_bias=c))
        for c in (False, True)
    )
    assert plain.fake.graph is plain.graph
    weights = done.fake.weights
    batch = torch.from_numpy(images).float()
    real: dict[str, torch.Tensor] = {}
    fake: dict[str, torch.Tensor] = {}

    def into(found: dict[str, torch.Tensor]) -> Visit:
        def keep(node: Node, value: torch.Tensor) -> torch.Tensor:
            found[node.output] = value
            return value

        return keep

    execute.run(done.graph, batch, visit=into(real))
    done.fake.run(batch, into(fake))
    own = tensors(done.graph, batch.dtype)
    for before, after in zip(done.graph.nodes, done.fake.graph.nodes, strict=True):
        if isinstance(before, Conv) and isinstance(after, Conv):
            means = [
                compute(replace(node, lo=-inf, hi=inf), [maps[node.input]], w).mean((0, 2, 3))
                for node, maps, w in ((before, real, own), (after, fake, weights))
            ]
            torch.testing.assert_close(means[1], means[0], rtol=1e-4, atol=1e-4)
    wanted = float_predictor(model)(images)
    errors = [
        sum(float(np.square(a - b).sum()) for a, b in zip(q.fake(images), wanted, strict=True))
        for q in (done, plain)
    ]
    assert errors[0] < errors[1]
