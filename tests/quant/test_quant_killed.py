"""A search that is killed with SIGKILL goes on, and ends in the Program of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import pixels
from tools import Cli

from intaglio.file import load
from intaglio.quant.search import detptq

ROOT = Path(__file__).parent.parent.parent
NETWORK = """
import torch
from intaglio.detect.decode import HeadSpec
from intaglio.detect.networks.fcos import Fcos
from intaglio.detect.networks.resnet import BasicBlock, ResNet

def make():
    torch.manual_seed(3)
    body = ResNet(BasicBlock, (1, 1, 1, 1), (8, 8, 8, 8), stem_kernel=3)
    return Fcos(body, HeadSpec("fcos", ("a", "b"), (8, 16, 32)), channels=8, convs=1)
"""
ARGUMENTS = ("quantize", "killed_network:make", "--images", "pictures", "--wbits", "3",
             "--abits", "3", "--method", "detptq")  # fmt: skip
PATIENCE = 300.0  # seconds, on a machine that does much else


def entries(state: Path) -> list[Any]:
    """What the search has written so far."""
    if not state.exists():
        return []
    found: list[Any] = json.loads(state.read_text())["entries"]
    return found


def killed(folder: Path, output: str, after: int, environment: Mapping[str, str]) -> int:
    """Start the command in a process of its own, kill it when its state has `after` entries;
    how many it left."""
    state = folder / f"{output}.search.json"
    start = "import torch; torch.set_num_threads(1); from intaglio.cli import main; main()"
    process = subprocess.Popen(
        ["nice", "-n", "5", sys.executable, "-c", start, *ARGUMENTS, "-o", output],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        end = time.monotonic() + PATIENCE
        while len(entries(state)) < after and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        _, complaint = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaint
    assert not (folder / output).exists()
    return len(entries(state))


def test_a_search_killed_twice_ends_in_the_program_of_one_left_alone(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the killed ones: losses are float sums
    (tmp_path / "killed_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pictures").mkdir()
    for n, image in enumerate(pixels((3, 32, 32), 4)):
        np.save(tmp_path / "pictures" / f"{n:02}.npy", image)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    first = killed(tmp_path, "killed.intaglio", 3, environment)
    second = killed(tmp_path, "killed.intaglio", first + 9, environment)
    assert 3 <= first < first + 9 <= second

    decided = 0
    decide = detptq.decide

    def counted(*arguments: Any) -> detptq.Choice:
        nonlocal decided
        decided += 1
        return decide(*arguments)

    monkeypatch.setattr(detptq, "decide", counted)
    again = ("-o", "killed.intaglio", "--json", "killed.json")
    code, _, err = cli(*ARGUMENTS, *again)
    assert code == 0, err
    left, decided = decided, 0
    code, _, err = cli(*ARGUMENTS, "-o", "whole.intaglio", "--json", "whole.json")
    assert code == 0, err
    assert left == decided - second > 0

    one, other = (load(tmp_path / f"{name}.intaglio") for name in ("killed", "whole"))
    assert one.digest() == other.digest()
    a, b = ((tmp_path / f"{name}.intaglio").read_bytes() for name in ("killed", "whole"))
    assert a == b
    reports = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("killed", "whole"))
    assert next(reports)["layers"] == next(reports)["layers"]
    assert not list(tmp_path.glob("*.search.json"))
