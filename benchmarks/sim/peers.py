"""What the simulator is timed beside: the same network in other runtimes, and what these run on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnxruntime
import peer_litert
import peer_onnx
import peer_torch
import torch
import units

from intaglio.detect import zoo
from intaglio.detect.decode import HeadSpec
from intaglio.detect.networks.retinanet import retinanet_resnet
from intaglio.file import load, save
from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Input, Output, Requant
from intaglio.program import Builder, Program
from intaglio.quant import float_predictor
from intaglio.sim import reference

NAMES = ("ort_int8", "ort_fp32", "torch_int8", "torch_fp32", "litert_int8")


def peers_of(program: Program, model: Any, each: int, together: int) -> dict[str, Any]:
    """By the names of the ratios, with `each` threads an image, and `together` images at a time."""
    return {name: spread(call, together) for name, call in calls(program, model, each, together)}


def calls(
    program: Program, model: Any, each: int, together: int, names: tuple[str, ...] = NAMES
) -> list[tuple[str, Callable[[Any], Any]]]:
    """The same, of one image (1, C, H, W) a call."""
    makers: dict[str, Callable[[], Callable[[Any], Any]]] = {
        "ort_int8": lambda: session(peer_onnx.model(program), each),
        "ort_fp32": lambda: session(peer_onnx.float_model(program), each),
        "torch_int8": lambda: peer_torch.Peer(program),
        "torch_fp32": lambda: float_predictor(model),
        "litert_int8": lambda: litert(program, each, together),
    }
    return [(name, makers[name]()) for name in names]


def litert(program: Program, each: int, together: int) -> Callable[[Any], Any]:
    """So many interpreters: one has one image at a time."""
    free = SimpleQueue[Any]()
    for _ in range(together):
        free.put(peer_litert.Peer(program, each))

    def run(images: Any) -> Any:
        peer = free.get()
        made = peer(images)
        free.put(peer)
        return made

    return run


def session(model: bytes, threads: int) -> Callable[[Any], Any]:
    """onnxruntime on so many threads a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (x,) = made.get_inputs()
    return lambda images: made.run(None, {x.name: images})


def spread(call: Callable[[Any], Any], threads: int) -> Callable[[Any], Any]:
    """`call` on each image by itself, `threads` at a time."""
    pool = ThreadPoolExecutor(threads)

    def run(images: Any) -> None:
        list(pool.map(call, (images[i : i + 1] for i in range(len(images)))))

    return run


def network(net: str) -> Any:
    """A bundled detector, or ResNet18-FPN-RetinaNet of 80 classes with random weights."""
    if net != "retinanet-r18":
        return zoo.load(net)
    torch.manual_seed(0)
    strides = (8, 16, 32, 64, 128)
    sizes = tuple(tuple(4.0 * s * 2 ** (i / 3) for i in range(3)) for s in strides)
    classes = tuple(str(i) for i in range(80))
    spec = HeadSpec("retinanet", classes, strides, anchor_sizes=sizes, anchor_ratios=(0.5, 1, 2))
    return retinanet_resnet(18, spec).eval()


def probe() -> tuple[Program, Any]:
    """A convolution whose neighbouring products are as large as bytes allow, and its image: pairs
    of them do not fit 16 bits, which is where instructions without 32-bit sums go wrong."""
    rng = np.random.default_rng(0)
    b = Builder()
    b.add(Input(output="x", shape=(64, 8, 8), type=IntType(8, False)), scale=1.0, zero_point=(0,))
    signs = rng.choice((-127, 127, 127, 127), (64, 64, 3, 3))
    # Sorted: neighbours have one sign, so that their products do not cancel.
    b.constant("w", np.sort(signs.reshape(64, -1)).reshape(64, 64, 3, 3))
    b.add(Conv2d(output="acc", input="x", weight="w", padding=(1, 1, 1, 1), pad_value=(0,)))
    shift = 30
    m = (200 << shift) // (255 * 127 * 64 * 9)
    b.table("m", [m])
    b.table("b", [1 << (shift - 1)])
    requant = Requant(
        output="y", input="acc", multiplier="m", bias="b", shift=(shift,), lo=0, hi=255
    )
    b.add(requant, IntType(8, False), 1.0, (0,))
    b.add(Output(output="out", input="y"))
    return b.build(), rng.integers(200, 256, (1, 64, 8, 8), dtype=np.uint8)


def wrong(name: str) -> int:
    """Of the probe's codes, how many a peer has off by more than its rounding in floats."""
    program, image = probe()
    ((_, call),) = calls(program, None, 1, 1, (name,))
    expected = reference.run(program, image).tensors["out"]
    return int(np.count_nonzero(np.abs(np.asarray(call(image)[0], int) - expected) > 1))


def facts_of(program: Program, net: str) -> dict[str, dict[str, Any]]:
    """Of every peer in a process of its own: the unit that it ran the network on, and how many
    codes of the probe it had wrong (int8 only)."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.intaglio"
        save(program, path)
        for name in NAMES:
            command = [sys.executable, __file__, name, net, str(path)]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
            ) as child:
                assert child.stdout is not None
                facts = json.loads(child.stdout.readline())
                facts["unit"] = units.seen(child.pid, name.rpartition("_")[2])
                child.kill()
            found[name] = facts
    return found


def work(name: str, net: str, path: str) -> None:
    """A peer on a Program, again and again, until the process is ended."""
    torch.set_num_threads(1)
    program = load(path)
    (shape,) = (t.shape for t in program.inputs)
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    ((_, call),) = calls(program, network(net), 1, 1, (name,))
    call(image)
    facts = {"wrong": wrong(name)} if name.endswith(units.INT8) else {}
    print(json.dumps(facts), flush=True)
    while True:
        call(image)


if __name__ == "__main__":
    work(*sys.argv[1:])
