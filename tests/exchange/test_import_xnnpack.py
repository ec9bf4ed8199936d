"""TFLite files in the integers of LiteRT's default, XNNPACK on x86: every tensor, to the bit."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import Cli, model_file, needs_modules, refused

from intaglio.errors import ModelError

needs_modules("ai_edge_litert", "flatbuffers")

from test_import_tflite import network  # noqa: E402  # after the check
from tflite_files import Net  # noqa: E402  # the same

from intaglio.exchange.from_tflite.checked import check  # noqa: E402  # the same
from intaglio.exchange.from_tflite.importer import imported  # noqa: E402  # the same

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the integers are those of x86"
)


def law(path: Path) -> int:
    """Integers compared, none of which differs; 0 for what is refused, with the option named."""
    said = ""
    try:
        made = imported(path, kernels="xnnpack")
    except ModelError as error:
        said = str(error)
    if said:
        assert said.endswith("leave out --kernels xnnpack.")
        return 0
    found = check(made, images=4)
    assert not found.reason
    assert not found.wrong, found.places
    return found.compared


@given(seed=st.integers(0, 10**6).filter(lambda n: n % 5 < 3))  # the others are no int8
@settings(max_examples=4, deadline=None)
def test_every_tensor_of_a_random_network(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    path = tmp_path_factory.mktemp("default") / "net.tflite"
    path.write_bytes(network(seed))
    law(path)


@pytest.mark.slow
def test_every_tensor_of_many_random_networks(tmp_path: Path) -> None:
    path, total = tmp_path / "net.tflite", 0
    for seed in (n for n in range(200) if n % 5 < 3):
        path.write_bytes(network(seed))
        total += law(path)
    assert total > 200_000


def test_a_sum_of_two_maps_is_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    for seed in range(3):
        net = Net(np.random.default_rng(seed))
        x = net.conv(net.input(1, 9, 9, 3), 4, 3)
        path.write_bytes(net.content(net.sum(x, net.conv(x, 4, 1), activation=seed % 2)))
        assert law(path) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["pretrainedResnet_quant", "vww_96_int8", "kws_ref_model", "ad01_int8"]
)
def test_trained_files_of_mlperf_tiny(name: str) -> None:
    found = check(imported(model_file(f"{name}.tflite"), kernels="xnnpack"), images=100)
    assert not found.wrong, found.places
    assert found.compared > 100_000


def test_the_command_names_the_kernels(tmp_path: Path, cli: Cli) -> None:
    net = Net(np.random.default_rng(1))
    x = net.conv(net.input(1, 5, 5, 2), 3, 3)
    (tmp_path / "net.tflite").write_bytes(net.content(x))
    code, out, _ = cli("import", "net.tflite", "-o", "net.intaglio", "--kernels", "xnnpack")
    assert code == 0
    assert ", XNNPACK, " in out
    assert " 0 of " in out
    (tmp_path / "mean.tflite").write_bytes(net.content(net.dense(net.mean(x), 2)))
    refused(
        cli("import", "mean.tflite", "-o", "m.intaglio", "--kernels", "xnnpack"),
        "it must not be there for XNNPACK's integers; leave out --kernels xnnpack.",
    )
