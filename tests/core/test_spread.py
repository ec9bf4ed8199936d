"""Work spread over processes: the same result in any arrangement, and when a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import pixels
from numpy.typing import NDArray
from tools import Cli, refused

from intaglio import api
from intaglio.detect import evaluate
from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections, HeadSpec
from intaglio.detect.images import stack
from intaglio.detect.networks.fcos import Fcos
from intaglio.detect.networks.resnet import BasicBlock, ResNet
from intaglio.detect.scenes import write_scenes
from intaglio.detect.zoo import load as bundled
from intaglio.errors import DataError, ToolError
from intaglio.file import save
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator
from intaglio.system import spread as room
from intaglio.system.spread import HERE, Cluster, Pool, spread

if find_spec("distributed") is None:
    if os.environ.get("CI"):
        pytest.fail("distributed must be installed where CI is set")
    pytest.skip("distributed is not installed", allow_module_level=True)

SIZE = (96, 96)
SCENES = 40  # more than fit in a batch


@pytest.fixture(scope="module")
def pool() -> Iterator[Cluster]:
    """Two processes."""
    with spread(jobs=2) as found:
        assert isinstance(found, Cluster)
        yield found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> CocoData:
    folder = tmp_path_factory.mktemp("scenes")
    return CocoData(write_scenes(folder, SCENES, 96, 3, "train"), folder / "images")


@pytest.fixture(scope="module")
def program(scenes: CocoData) -> Program:
    images = stack([scenes.file(i) for i in scenes.ids[:4]], SIZE)
    return api.quantize(bundled("fcos-nano"), images, wbits=6, abits=6, method="minmax")


def measured(pool: Pool, predict: evaluate.Predict, data: CocoData, spec: HeadSpec) -> Any:
    """The result of an evaluation but for its time, and the detections of every image."""
    result = evaluate.evaluate(predict, data, spec, SIZE, batch=5, pool=pool)
    files = [data.file(i) for i in data.ids]
    parts = [files[first : first + 5] for first in range(0, len(files), 5)]
    found = pool.map(evaluate.Detector(predict, spec, SIZE, False), parts)
    return replace(result, seconds=0), [d for more in found for d in more]


def assert_same(one: Any, other: Any) -> None:
    assert one[0] == other[0]
    assert len(one[1]) == len(other[1]) == SCENES
    for a, b in zip(one[1], other[1], strict=True):
        assert isinstance(a, Detections)
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_results_are_those_of_this_process_in_order(pool: Cluster) -> None:
    @settings(max_examples=10)
    @given(st.lists(st.integers(-3, 3), max_size=9), st.integers(1, 3))
    def law(parts: list[int], divisor: int) -> None:
        def work(part: int) -> tuple[int, float]:
            return part, 6.0 / (part - divisor)

        def attempt(pool: Pool) -> tuple[list[tuple[int, float]], str]:
            found = []
            try:
                for more in pool.map(work, parts):
                    found.append(more)
            except ZeroDivisionError as error:
                return found, str(error)
            return found, ""

        assert attempt(pool) == attempt(HERE)

    law()


def test_a_users_error_keeps_its_sentence(pool: Cluster, scenes: CocoData, tmp_path: Path) -> None:
    def predict(images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        raise AssertionError("unread images must not be run")

    detector = evaluate.Detector(predict, HeadSpec("fcos", ("a",), (8,)), SIZE, False)
    absent = tmp_path / "absent.png"
    sentences = []
    for where in (HERE, pool):
        with pytest.raises(DataError, match=r"absent\.png") as caught:
            list(where.map(detector, [[absent]]))
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]


def mortal(predict: evaluate.Predict, folder: Path) -> evaluate.Predict:
    """A predictor that kills its process while it works, as often as `folder` has lives."""

    def run(images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        for life in sorted(folder.glob("life*")):
            try:
                life.rename(folder / f"taken-{os.getpid()}")
            except FileNotFoundError:  # by another worker
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return list(predict(images))

    return run


def test_workers_killed_at_work_change_nothing(
    pool: Cluster, scenes: CocoData, program: Program, tmp_path: Path
) -> None:
    spec = api.head_of(program, "the network")
    simulate = Simulator(program, threads=1).run_dequantised
    expected = measured(HERE, simulate, scenes, spec)
    assert expected[0].ap > 0.1
    for n in range(2):
        (tmp_path / f"life-{n}").touch()
    assert_same(measured(pool, mortal(simulate, tmp_path), scenes, spec), expected)
    killed = {int(path.name.partition("-")[2]) for path in tmp_path.glob("taken-*")}
    assert len(killed) == 2
    assert not list(tmp_path.glob("life*"))
    assert os.getpid() not in killed


def test_a_torch_network_runs_on_the_clients_threads(pool: Cluster, scenes: CocoData) -> None:
    model = bundled("fcos-nano")
    before = torch.get_num_threads()
    predict = api.predictor(model, "float")

    def asked(images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        assert torch.get_num_threads() == 3
        return list(predict(images))

    try:
        torch.set_num_threads(3)
        spec = api.head_of(model, "the network")
        assert_same(measured(pool, asked, scenes, spec), measured(HERE, asked, scenes, spec))
    finally:
        torch.set_num_threads(before)


def little_detector() -> Fcos:
    torch.manual_seed(3)
    body = ResNet(BasicBlock, (1, 1, 1, 1), (8, 8, 8, 8), stem_kernel=3)
    return Fcos(body, HeadSpec("fcos", ("a", "b"), (8, 16, 32)), channels=8, convs=1)


def test_a_search_whose_workers_are_killed_ends_in_the_same_program(pool: Cluster) -> None:
    model, images = little_detector().eval(), pixels((3, 32, 32), 4)
    config = QuantConfig(method="detptq", wbits=3, abits=3, powers=(1.5, 2.4, 3.6))
    alone = quantize(model, images, config)
    before = set(pool._client.run(os.getpid).values())

    def kill(done: int, total: int) -> None:
        if done == 4:
            os.kill(min(before), signal.SIGKILL)

    spread_out = quantize(model, images, config, pool=pool, progress=kill)
    assert min(before) not in pool._client.run(os.getpid).values()
    assert spread_out.program.digest() == alone.program.digest()
    assert alone.search is not None
    assert spread_out.search is not None
    assert spread_out.search.choices == alone.search.choices
    assert (spread_out.search.start, spread_out.search.end) == (
        alone.search.start,
        alone.search.end,
    )
    assert spread_out.search.forwards > 0


def test_the_command_says_the_same_wherever_it_runs(
    cli: Cli, pool: Cluster, scenes: CocoData, program: Program, tmp_path: Path
) -> None:
    save(program, tmp_path / "nano.intaglio")
    address = pool._client.scheduler.address
    said = []
    for where in ((), ("--jobs", 2), ("--scheduler", address)):
        data = ("--data", scenes.path, "--images", scenes.folder)
        code, _, err = cli("eval", "nano.intaglio", *data, *where, "--json", "ap.json")
        assert code == 0, err
        own = dict.fromkeys(("seconds", "settings", "steps"))  # what a run has of its own
        said.append(json.loads((tmp_path / "ap.json").read_text()) | own)
    assert said[0] == said[1] == said[2]
    assert said[0]["images"] == SCENES


def test_bad_arrangements_are_refused(
    cli: Cli, scenes: CocoData, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save(program, tmp_path / "nano.intaglio")
    ask = ("eval", "nano.intaglio", "--data", scenes.path, "--images", scenes.folder)
    monkeypatch.setattr(room, "CONNECTING", 0.2)
    refused(cli(*ask, "--jobs", 0), "jobs must be 1 to 1,024, not 0")
    both = ("--jobs", 2, "--scheduler", "tcp://127.0.0.1:1")
    refused(cli(*ask, *both), "jobs must not be given with a scheduler")
    refused(cli(*ask, "--scheduler", ""), "--scheduler must be a value, not ''")
    for address in ("tcp://127.0.0.1:1", "nonsense", "abc://x"):
        refused(cli(*ask, "--scheduler", address), "must be the address of a running", address)
    quantise = ("quantize", "fcos-nano", "--images", scenes.folder, "-o", "other.intaglio")
    refused(cli(*quantise, "--jobs", 2), "--jobs and --scheduler must go with --method detptq")
    refused(cli(*quantise, "--method", "detptq", "--jobs", -1), "jobs must be 1 to 1,024, not -1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(cli(*ask, "--jobs", 2), "distributed must be installed", "pip install 'distributed>=")


def test_a_worker_of_another_version_is_refused(
    pool: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = room.versions()
    monkeypatch.setattr(room, "versions", lambda: (("intaglio", "0.0.1"), *ours[1:]))
    with pytest.raises(ToolError, match=r"must have intaglio 0\.0\.1, as its client, not "):
        list(pool.map(abs, [-1]))
    monkeypatch.setattr(room, "versions", lambda: (*ours[:2], ("torch", None)))
    assert list(pool.map(str, [-1])) == ["-1"]


def test_a_module_that_workers_lack_is_named(pool: Cluster, tmp_path: Path) -> None:
    def work(part: int) -> int:
        import absent_network  # noqa: F401  # that is the point

        return part

    with pytest.raises(ToolError, match="must be able to import absent_network"):
        list(pool.map(work, [1]))


def test_a_cluster_without_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(room, "WAITING", 0.2)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        Client(empty, set_as_default=False) as client,
        pytest.raises(ToolError, match="must have at least one worker, not 0"),
    ):
        list(Cluster(client, 1).map(abs, [-1]))


def test_work_that_kills_every_worker_is_given_up(
    pool: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(part: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return part

    monkeypatch.setattr(pool._client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(ToolError, match="must survive their work"):
        list(pool.map(work, [1]))
