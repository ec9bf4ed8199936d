"""How many threads work is given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from intaglio.detect.zoo import load
from intaglio.errors import DataError
from intaglio.quant import QuantConfig, quantize
from intaglio.quant.capture.work import macs
from intaglio.system import threads as threads_module
from intaglio.system.threads import WORTH, for_torch, most, processors, stated


@pytest.fixture(autouse=True)
def nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_small_networks_have_one_and_large_ones_all() -> None:
    assert for_torch(WORTH - 1) == 1
    assert for_torch(WORTH) == processors() == most()


@pytest.mark.parametrize(("text", "wanted"), [("3", 3), ("4,2", 4), ("", None), ("0", None),
                                              ("many", None)])  # fmt: skip
def test_what_is_stated_counts(
    text: str, wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert stated() == wanted
    assert for_torch(1) == (wanted or 1)
    assert most() == (wanted or processors())
    assert for_torch(1, 7) == most(7) == 7  # an argument before all
    with pytest.raises(DataError, match="threads must be at least 1, not 0"):
        most(0)


@given(st.integers(1, 10**7), st.integers(1, 10**6))
def test_a_container_has_its_share_of_the_processors(quota: int, period: int) -> None:
    import tempfile

    whole = processors()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "cpu.max"
        patch.setattr(threads_module, "QUOTA", file)
        free = processors()
        file.write_text(f"{quota} {period}\n")
        assert processors() == min(free, max(1, quota // period))
        file.write_text("max 100000\n")
        assert processors() == free >= whole


def test_the_size_of_a_network_is_measured() -> None:
    assert macs(load("fcos-nano"), (3, 96, 96)) == 10_819_656
    assert macs(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 20)) == 200 * 8 * 27
    assert macs(nn.Linear(3, 8), (3, 10, 20)) == 0  # it does not run


@pytest.mark.parametrize("asked", [None, 2])
def test_quantisation_uses_them_and_gives_them_back(asked: int | None) -> None:
    before, seen = torch.get_num_threads(), []

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return torch.relu(self.conv(x))

    torch.set_num_threads(3)
    try:
        images = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
        done = quantize(Asks(), images, QuantConfig(), threads=asked)
        assert torch.get_num_threads() == 3
        assert seen[-1] == (asked or 1)
        assert done.threads == asked
        assert done.layers
    finally:
        torch.set_num_threads(before)


def test_more_threads_than_anybody_means_are_refused() -> None:
    with pytest.raises(DataError, match=r"^threads must be at most 4096, not 9{20}\.$"):
        stated(int("9" * 20))
