"""The network of a build on a Zynq under PYNQ: pictures in, integer maps out.

    from network import Network    # PYTHONPATH=driver, in the folder of the build
    network = Network.load("zynq.bit", "manifest.json")
    maps = network(images)         # codes (N, C, H, W) in, by name out

`intaglio build` puts it into `driver/`, with the modules of intaglio that it needs in a folder of
that name; it needs NumPy and, for `load` alone, pynq. The overlay is that of `scripts/zynq.tcl`:
`dma_0`, `dma_1`, ... of the outputs in their order, the first with the input, and `control`, an AXI
GPIO that reads `frame_error` and resets the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.hdl.pack import frames_words, words_frames

Codes = NDArray[np.integer[Any]]
GPIO_DATA, GPIO2_DATA = 0x0, 0x8  # AXI GPIO (PG144): frame_error, reset


class Stream:
    """One stream of the manifest."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.name: str = entry["tensor"]
        channels, height, width = entry["shape"]
        self.shape: tuple[int, int, int] = (channels, height, width)
        self.type = IntType.parse(entry["type"])
        self.lanes: int = entry["lanes"]
        self.beats: int = entry["beats"]
        self.bytes: int = entry["data_width"] // 8  # of a beat

    def pack(self, frame: Codes) -> NDArray[np.uint8]:
        """A frame (C, H, W) as the bytes of its beats."""
        words = frames_words(frame[None].astype(np.int64), self.lanes, self.type.bits)[0]
        wide = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
        return wide[:, : self.bytes].ravel()

    def unpack(self, data: NDArray[np.uint8]) -> Codes:
        """The inverse."""
        wide = np.zeros((self.beats, -(-self.bytes // 4) * 4), dtype=np.uint8)
        wide[:, : self.bytes] = data.reshape(self.beats, self.bytes)
        words = wide.view("<u4")[None]
        codes = words_frames(words, self.shape, self.lanes, self.type.bits, self.type.signed)
        frame: Codes = codes[0]
        return frame


class Network:
    """The design of an overlay as a function of images.

    overlay   a `pynq.Overlay`, or what has the same `dma_0`, ... and `control`.
    allocate  `pynq.allocate`: an array that the DMA reaches, of a shape and a dtype.
    manifest  of the build.
    """

    def __init__(
        self, overlay: Any, allocate: Callable[..., Any], manifest: Mapping[str, Any]
    ) -> None:
        self.source = Stream(manifest["input"])
        self.sinks = [Stream(entry) for entry in manifest["outputs"]]
        self.dmas = [getattr(overlay, f"dma_{k}") for k in range(len(self.sinks))]
        self.control = overlay.control
        self._input, *self._outputs = (
            allocate(shape=(port.beats * port.bytes,), dtype=np.uint8)
            for port in (self.source, *self.sinks)
        )

    @classmethod
    def load(cls, bitfile: str | Path, manifest: str | Path) -> Network:
        """Load an overlay into the device; the .hwh file lies beside it."""
        import pynq

        facts = json.loads(Path(manifest).read_text(encoding="utf-8"))
        network = cls(pynq.Overlay(str(bitfile)), pynq.allocate, facts)
        network.reset()
        return network

    def reset(self) -> None:
        """The network forgets all frames, and `frame_error`."""
        self.control.write(GPIO2_DATA, 1)
        self.control.write(GPIO2_DATA, 0)

    @property
    def frame_error(self) -> bool:
        """Whether a frame of the input did not arrive whole since the last reset."""
        return bool(self.control.read(GPIO_DATA) & 1)

    def __call__(self, images: Codes) -> dict[str, Codes]:
        """Output codes (N, C, H, W) by name; a frame goes in while the one before comes out.

        Raises ValueError for other images than the network's, RuntimeError after `frame_error`.
        """
        self._check(images)
        maps: dict[str, list[Codes]] = {sink.name: [] for sink in self.sinks}
        for k in range(len(self.sinks)):
            self._receive(k)
        self._send(images[0])
        for n in range(len(images)):
            self.dmas[0].sendchannel.wait()
            more = n + 1 < len(images)
            if more:
                self._send(images[n + 1])
            for k, sink in enumerate(self.sinks):
                self.dmas[k].recvchannel.wait()
                self._outputs[k].invalidate()
                maps[sink.name].append(sink.unpack(np.array(self._outputs[k], dtype=np.uint8)))
                if more:
                    self._receive(k)
        if self.frame_error:
            raise RuntimeError("frame_error must be 0 after whole frames, not 1; reset().")
        return {name: np.stack(frames) for name, frames in maps.items()}

    def _check(self, images: Codes) -> None:
        """Raises ValueError."""
        low, high = self.source.type.lo, self.source.type.hi
        if images.ndim != 4 or images.shape[1:] != self.source.shape or not len(images):
            wanted = ", ".join(map(str, self.source.shape))
            raise ValueError(f"images must have the shape (N, {wanted}), not {images.shape}.")
        if not np.issubdtype(images.dtype, np.integer):
            raise ValueError(f"images must be integers, not {images.dtype}.")
        if images.min() < low or images.max() > high:
            raise ValueError(f"images must be {low} to {high}, as the network's input is.")

    def _send(self, image: Codes) -> None:
        self._input[:] = self.source.pack(image)
        self._input.flush()
        self.dmas[0].sendchannel.transfer(self._input)

    def _receive(self, k: int) -> None:
        self.dmas[k].recvchannel.transfer(self._outputs[k])
