"""onnxruntime in a process of its own, with a time limit: a model that ends it ends only itself."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

LIMIT = 10  # seconds


class Runtime:
    """Runs models, as they are written or as the runtime does by default. Use as a context."""

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def run(self, model: bytes, images: list[Any], optimised: bool = False) -> list[Any] | str:
        """The outputs of each image (1, C, H, W), or in words why there is none."""
        try:
            self.pipe.send((model, images, optimised))
            if self.pipe.poll(LIMIT):
                return self.pipe.recv()
        except (EOFError, OSError):
            pass
        self.stop()
        self.start()
        return "the runtime ended or took too long"


def serve(pipe: Connection) -> None:
    """The other process."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    while True:
        model, images, optimised = pipe.recv()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        if not optimised:
            options.graph_optimization_level = levels.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
            name = session.get_inputs()[0].name
            pipe.send([session.run(None, {name: image}) for image in images])
        except Exception as error:  # of many kinds; all mean that the runtime refuses it
            pipe.send(str(error)[:300])
