"""The drivers for a Zynq, as they are in a build, against its Verilated wrapper behind a DMA that
is written anew: registers and memory."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import pyramid, skip
from strategies import random_images
from tools import needs

from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.folder import verilated
from intaglio.codegen.running.library import FLAGS, OPTIONS, SOURCES
from intaglio.codegen.structure.ports import Port
from intaglio.program import Program
from intaglio.sim.engine import Simulator
from intaglio.system.processes import environment, kept_folder

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("verilator")]
HERE = Path(__file__).parent
CONTROL, DMA, APART = 0x41200000, 0x40400000, 0x10000  # as in fake_dma.cpp
PROGRAMS = {"skip": (skip, 40), "pyramid": (pyramid, 80)}


def whole(bundle: Bundle) -> str:
    """Module `whole`: the build's wrapper with the names i, o0, o1, ..."""
    facts = bundle.manifest
    source, sinks = (Port.from_json(facts["input"]), [Port.from_json(e) for e in facts["outputs"]])
    ports = ["input wire aclk", "input wire aresetn", "output wire error"]
    joined = [".aclk(aclk)", ".aresetn(aresetn)", f".{facts['frame_error']}(error)"]
    named = [("i", source, "input", "output"),
             *((f"o{k}", sink, "output", "input") for k, sink in enumerate(sinks))]  # fmt: skip
    for name, port, forth, back in named:
        widths = {"tdata": port.data_width, "tvalid": 1, "tlast": 1, "tready": 1}
        if forth == "output":
            widths["tkeep"] = port.data_width // 8
        for wire, width in widths.items():
            way = back if wire == "tready" else forth
            ports.append(f"{way} wire [{width - 1}:0] {name}_{wire}")
            joined.append(f".{port.name}_{wire}({name}_{wire})")
    listed, wired = ",\n  ".join(ports), ",\n    ".join(joined)
    return (
        f"module whole (\n  {listed}\n);\n  {facts['wrapper']} core (\n    {wired});\nendmodule\n"
    )


class System:
    """A fake Zynq: the compiled design and its DMAs, their registers and memory."""

    def __init__(self, library: Path) -> None:
        self.c = ctypes.CDLL(str(library))
        self.c.fake_memory.restype = ctypes.c_void_p
        self.c.fake_base.restype = ctypes.c_uint64
        self.c.fake_read.restype = ctypes.c_uint32
        self.c.fake_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.c.fake_write.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32]
        self.c.fake_open()
        self.used = 64

    def take(self, size: int) -> tuple[int, int]:
        """Memory: its address here, and for the DMA."""
        at, self.used = self.used, self.used + size + 64
        return self.c.fake_memory() + at, self.c.fake_base() + at

    def read(self, address: int) -> int:
        return int(self.c.fake_read(None, address))

    def write(self, address: int, value: int) -> None:
        self.c.fake_write(None, address, value)


@pytest.fixture(scope="module", params=["skip", pytest.param("pyramid", marks=pytest.mark.slow)])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Program, Bundle, Path]:
    """A build for a Zynq, its folder, and in it fake.so."""
    needs("verilator")
    program, lanes = PROGRAMS[request.param]
    bundle = build(program(), target="xc7z020", lanes=lanes)
    folder = tmp_path_factory.mktemp("zynq") / "build"
    bundle.write(folder)
    work = folder / "sim" / "fake"
    work.mkdir(parents=True)
    facts = bundle.manifest
    entries = " ".join(f"X({k}, {e['data_width'] // 8})" for k, e in enumerate(facts["outputs"]))
    (work / "ports.h").write_text(
        f"#define SOURCE_BYTES {facts['input']['data_width'] // 8}\n"
        f"#define SINKS_COUNT {len(facts['outputs'])}\n#define SINKS(X) {entries}\n"
    )
    (work / "whole.v").write_text(whole(bundle))
    shutil.copy(HERE / "fake_dma.cpp", work)
    where = f'-DINTAGLIO_ROM_PATH="{folder}/"'
    sources = [str(folder / path) for path in (*SOURCES, f"rtl/{facts['wrapper']}.v")]
    kept = kept_folder()
    verilated.make(
        work, [*OPTIONS, where], [*sources, "whole.v"], ["fake_dma.cpp"], "fake.so", flags=FLAGS,
        link=["-shared"], kept=kept and kept / "intaglio", environment=environment(),
    )  # fmt: skip
    return program(), bundle, folder


@pytest.fixture
def system(built: tuple[Program, Bundle, Path], tmp_path: Path) -> System:
    """Its own copy of the library: a library's memory is one for the whole process."""
    return System(Path(shutil.copy(built[2] / "sim" / "fake" / "fake.so", tmp_path / "fake.so")))


class Buffer(np.ndarray):  # type: ignore[type-arg]
    """What `pynq.allocate` gives: the DMA sees it after `flush`, we see its work after
    `invalidate`."""

    device_address: int
    there: Any

    def flush(self) -> None:
        self.there[:] = np.asarray(self)

    def invalidate(self) -> None:
        np.asarray(self)[:] = self.there


class Channel:
    """`sendchannel` or `recvchannel` of pynq.lib.dma.DMA, with its checks."""

    def __init__(self, system: System, base: int) -> None:
        self.system, self.base, self.busy = system, base, False
        system.write(base, 1)

    def transfer(self, buffer: Buffer) -> None:
        assert not self.busy, "DMA channel not idle"
        self.busy = True
        at = buffer.device_address
        for offset, value in ((0x18, at & 0xFFFFFFFF), (0x1C, at >> 32), (0x28, buffer.nbytes)):
            self.system.write(self.base + offset, value)

    def wait(self) -> None:
        assert self.busy
        for _ in range(100_000):
            status = self.system.read(self.base + 4)
            assert not status & 0x70, "DMA error"
            if status & 2:
                self.busy = False
                return
        raise AssertionError("the transfer does not end")


def overlay(system: System, outputs: int) -> Any:
    """What `pynq.Overlay` would be of scripts/zynq.tcl."""
    found = types.SimpleNamespace()
    for k in range(outputs):
        base = DMA + k * APART
        setattr(found, f"dma_{k}", types.SimpleNamespace(recvchannel=Channel(system, base + 0x30)))
    found.dma_0.sendchannel = Channel(system, DMA)
    found.control = types.SimpleNamespace(
        read=lambda offset: system.read(CONTROL + offset),
        write=lambda offset, value: system.write(CONTROL + offset, value),
    )
    return found


def allocator(system: System) -> Any:
    def allocate(shape: tuple[int, ...], dtype: Any) -> Buffer:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        here, there = system.take(size)
        buffer = np.random.default_rng(1).integers(0, 256, shape, dtype=dtype).view(Buffer)
        buffer.there = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(here))
        buffer.device_address = there
        return buffer

    return allocate


@pytest.fixture
def module(built: tuple[Program, Bundle, Path]) -> Any:
    """driver/network.py as it lies there."""
    spec = importlib.util.spec_from_file_location("network", built[2] / "driver" / "network.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_python_driver(
    built: tuple[Program, Bundle, Path], system: System, module: Any
) -> None:
    program, bundle, _ = built
    network = module.Network(
        overlay(system, len(bundle.manifest["outputs"])), allocator(system), bundle.manifest
    )
    network.reset()
    for count in (3, 1):
        images = random_images(program, count, count)
        maps = network(images)
        want = Simulator(program)(images)
        assert set(maps) == set(want)
        for name in want:
            np.testing.assert_array_equal(maps[name], want[name])
    for wrong, words in (
        (images[0], "images must have the shape"),
        (images.astype(float), "images must be integers, not float64"),
        (images.astype(np.int64) + 300, "images must be 0 to 255"),
    ):
        with pytest.raises(ValueError, match=words):
            network(wrong)


def test_a_lost_beat_is_told_and_a_reset_helps(
    built: tuple[Program, Bundle, Path], system: System, module: Any
) -> None:
    program, bundle, _ = built
    network = module.Network(
        overlay(system, len(bundle.manifest["outputs"])), allocator(system), bundle.manifest
    )
    network.reset()
    images = random_images(program, 3, 5)
    system.c.fake_lose(bundle.manifest["input"]["beats"] + 7)  # in the second frame
    with pytest.raises(RuntimeError, match="frame_error must be 0 after whole frames"):
        network(images)
    network.reset()
    assert not network.frame_error
    for name, maps in Simulator(program)(images).items():
        np.testing.assert_array_equal(network(images)[name], maps)


def test_the_python_driver_needs_numpy_alone(built: tuple[Program, Bundle, Path]) -> None:
    script = (
        "import sys\nsys.modules['pynq'] = None\nimport network, intaglio\n"
        "assert intaglio.__file__.endswith('driver/intaglio/__init__.py'), intaglio.__file__\n"
        "print(sorted(m for m in sys.modules if m.startswith('intaglio.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": "driver"}, cwd=built[2],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class CBus(ctypes.Structure):
    _fields_ = (("read", ctypes.c_void_p), ("write", ctypes.c_void_p), ("context", ctypes.c_void_p))


class CBuffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("address", ctypes.c_uint64))


class CDma(ctypes.Structure):
    _fields_ = (
        ("net", ctypes.c_void_p), ("bus", CBus), ("dma", ctypes.c_size_t * 64),
        ("control", ctypes.c_size_t), ("input", CBuffer), ("outputs", CBuffer * 64),
        ("patience", ctypes.c_uint32),
    )  # fmt: skip


def c_driver(folder: Path, work: Path) -> Any:
    """The C driver and a network's ports as a library."""
    (work / "net.c").write_text(
        '#include "top_net.h"\nconst intaglio_net *net(void) { return &top_net; }\n'
    )
    subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-shared",
         "-fPIC", "-I", str(folder / "driver"), "-o", str(work / "driver.so"), str(work / "net.c"),
         str(folder / "driver" / "intaglio_dma.c")],
        check=True,
    )  # fmt: skip
    library = ctypes.CDLL(str(work / "driver.so"))
    library.net.restype = ctypes.c_void_p
    return library


def test_the_page_compiles(built: tuple[Program, Bundle, Path], tmp_path: Path) -> None:
    page = (HERE.parent.parent / "docs" / "integrating.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    (tmp_path / "page.c").write_text(text)
    command = ["gcc", "-std=c99", "-Wall", "-Werror", "-fsyntax-only", "page.c", "-I"]
    subprocess.run([*command, str(built[2] / "driver")], cwd=tmp_path, check=True)


def test_the_c_driver(built: tuple[Program, Bundle, Path], system: System, tmp_path: Path) -> None:
    program, bundle, folder = built
    c = c_driver(folder, tmp_path)
    facts = bundle.manifest
    source, sinks = Port.from_json(facts["input"]), [Port.from_json(e) for e in facts["outputs"]]
    bus = CBus(
        *(ctypes.cast(f, ctypes.c_void_p) for f in (system.c.fake_read, system.c.fake_write))
    )
    dma = CDma(net=c.net(), bus=bus, control=CONTROL, patience=100_000)
    dma.input = CBuffer(*system.take(source.beats * source.data_width // 8))
    for k, sink in enumerate(sinks):
        dma.dma[k] = DMA + k * APART
        dma.outputs[k] = CBuffer(*system.take(sink.beats * sink.data_width // 8))
    assert c.intaglio_dma_reset(ctypes.byref(dma)) == 0
    images = random_images(program, 3, 3)
    want = Simulator(program)(images)

    def run(image: Any) -> tuple[int, list[Any]]:
        codes = np.ascontiguousarray(image, dtype=np.int32)
        maps = [np.full(sink.shape, -999, dtype=np.int32) for sink in sinks]
        places = (ctypes.c_void_p * len(maps))(*(m.ctypes.data for m in maps))
        return c.intaglio_dma_frame(
            ctypes.byref(dma), ctypes.c_void_p(codes.ctypes.data), places
        ), maps

    for n, image in enumerate(images):
        status, maps = run(image)
        assert status == 0
        for sink, codes in zip(sinks, maps, strict=True):
            np.testing.assert_array_equal(codes, want[sink.tensor][n])
    assert run(images[0].astype(np.int32) + 256)[0] == -4  # a code that is no pixel
    system.c.fake_lose(5)
    assert run(images[0])[0] == -3
    assert c.intaglio_dma_reset(ctypes.byref(dma)) == 0
    assert run(images[1])[0] == 0
    dma.patience = 1
    assert run(images[0])[0] == -1
    dma.patience = 100_000
    assert c.intaglio_dma_reset(ctypes.byref(dma)) == 0
    dma.input.address = 16  # where there is no memory
    assert run(images[0])[0] == -2
