"""Object-detection output loss of every kind of head, and of boxes by a function of one's own."""

import numpy as np
import pytest
from heads import SIZE, SPECS, maps_of
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from intaglio.detect.decode import Detections, decode  # noqa: E402  # needs torch first
from intaglio.detect.own import OwnDecoder  # noqa: E402
from intaglio.quant.search.found import FoundLoss, loss_of  # noqa: E402
from intaglio.quant.search.odol import OutputLoss  # noqa: E402
from intaglio.quant.settings.config import OdolTerms  # noqa: E402

TERMS = OdolTerms()
PIXELS = (int(SIZE[0]), int(SIZE[1]))


def batch(kind: str, *seeds: int) -> list[torch.Tensor]:
    """Maps (N, C, h, w) of as many images."""
    spec = SPECS[kind]
    images = [maps_of(spec, seed) for seed in seeds]
    if kind in ("fcos", "scrfd"):  # distances, which no network makes negative
        index = spec.layout.index(("box",))
        for maps in images:
            for number in (spec.place(index, level) for level in range(spec.levels)):
                maps[number] = abs(maps[number])
    return [torch.from_numpy(np.stack(each)) for each in zip(*images, strict=True)]


@pytest.mark.parametrize("kind", SPECS)
def test_odol_is_nothing_for_the_same_maps_and_has_gradients(kind: str) -> None:
    real = batch(kind, 1, 2)
    loss = loss_of(SPECS[kind], TERMS, PIXELS)(real)
    assert isinstance(loss, OutputLoss)
    assert (loss.total > 0).all()
    torch.testing.assert_close(loss(real), torch.zeros(2, dtype=torch.float64))
    noise = batch(kind, 3, 4)
    near = [(a + 0.1 * b).requires_grad_() for a, b in zip(real, noise, strict=True)]
    far = [a + b for a, b in zip(real, noise, strict=True)]
    assert (loss(near) > 0).all()
    assert (loss(far) > loss(near)).all()
    loss(near).sum().backward()
    touched = [float(m.grad.abs().sum()) > 0 for m in near if m.grad is not None]
    assert all(torch.isfinite(m.grad).all() for m in near if m.grad is not None)
    assert sum(touched) == len(real) - ("points" in str(SPECS[kind].layout)) * SPECS[kind].levels


@pytest.mark.parametrize("kind", ["yolov8", "retinaface"])
def test_odol_falls_by_descent(kind: str) -> None:
    real = batch(kind, 1)
    loss = loss_of(SPECS[kind], TERMS, PIXELS)(real)
    found = [(m + 0.3 * n).requires_grad_() for m, n in zip(real, batch(kind, 5), strict=True)]
    adam, first = torch.optim.Adam(found, lr=0.02), None
    for _ in range(60):
        adam.zero_grad()
        value = loss(found).sum()
        first = first or float(value.detach())
        value.backward()
        adam.step()
    assert first is not None
    assert float(value.detach()) < first / 3


def own(kind: str) -> OwnDecoder:
    """The spec's own boxes, as a function of a user's would make them."""

    def boxes(maps: list[np.ndarray], size: tuple[float, float]) -> Detections:  # type: ignore[type-arg]  # as users write it
        return decode(SPECS[kind], maps, size)

    boxes.classes = SPECS[kind].classes  # type: ignore[attr-defined]  # what a decoder has
    return OwnDecoder.of(boxes)


@settings(max_examples=10)
@given(st.sampled_from(["yolov5", "yunet"]), st.integers(0, 99), st.integers(0, 99))
def test_boxes_apart_are_a_loss_and_the_same_boxes_none(kind: str, one: int, other: int) -> None:
    real = batch(kind, one, other)
    loss = loss_of(own(kind), TERMS, PIXELS)(real)
    assert isinstance(loss, FoundLoss)
    assert loss(real).tolist() == [0.0, 0.0]
    noise = batch(kind, 100, 101)
    near, far = ([a + s * b for a, b in zip(real, noise, strict=True)] for s in (1e-4, 1.0))
    assert (loss(near) >= 0).all()
    assert (loss(far) >= loss(near)).all()
    assert (loss(far) > 0).all()


def test_what_is_lost_costs_its_score_twice_and_what_is_added_once() -> None:
    loss = loss_of(own("yunet"), TERMS, PIXELS)(batch("yunet", 1))
    assert isinstance(loss, FoundLoss)
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    one = Detections(box, np.array([0.5]), np.array([0]))
    two = Detections(np.concatenate([box, box + 30]), np.array([0.5, 0.25]), np.array([0, 0]))
    half = Detections(box / [1, 1, 2, 1], np.array([0.25]), np.array([0]))
    other = Detections(box, np.array([0.5]), np.array([1]))
    assert loss.apart(one, none) == 2.0
    assert loss.apart(none, one) == 0.0
    assert loss.apart(one, two) == 0.5
    assert loss.apart(two, one) == pytest.approx(0.5 / 0.75)
    assert loss.apart(one, half) == pytest.approx(0.5 + 0.5)
    assert loss.apart(one, other) == 3.0
