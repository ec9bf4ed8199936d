"""What a case gives here and in onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx_cases import Case
from onnx_runtime import Runtime

from intaglio.errors import IntaglioError
from intaglio.exchange.importer import import_onnx
from intaglio.fixed import PRESETS, Arithmetic
from intaglio.sim.reference import run

EVEN = Arithmetic(name="even", rounding="RND_CONV", multiplier_bits=33, bias_bits=63)
NEAR = 1e-3  # of a code: where float32 may round to either side


@dataclass(frozen=True)
class Verdict:
    """`word`: equal, default (equal to what the runtime makes with its graph optimisation, which
    rounds float biases), near (a code by one, next to a half), refused, alone (the runtime refuses
    the file), wrong or traceback. The results are codes, where there are any."""

    word: str
    detail: str = ""
    ours: Any = None
    theirs: Any = None


def images_for(case: Case) -> tuple[Any, list[Any]]:
    """Codes (2, C, H, W), and what they stand for, image by image."""
    codes = np.random.default_rng(1).integers(0, 256, (2, *case.shape))
    reals = (codes - case.zero).astype(np.float32) * np.float32(case.scale)
    return codes, [x[None] for x in reals]


def imported(case: Case, codes: Any, path: Path) -> Any:
    """Output codes of the Program, or the refusal."""
    path.write_bytes(case.model())
    try:
        whole = case.kind.endswith("Integer")  # sums of 32 bits are no products in float32
        program = import_onnx(path, EVEN if whole else PRESETS["onnxruntime"])
    except IntaglioError as error:
        return str(error)
    return run(program, codes).tensors[program.outputs[0].name]


def judge(case: Case, runtime: Runtime, path: Path) -> Verdict:
    """Both sides, compared."""
    codes, reals = images_for(case)
    try:
        ours = imported(case, codes, path)
    except Exception as error:
        return Verdict("traceback", f"{type(error).__name__}: {error}")
    found = runtime.run(case.model(real=True), reals)
    theirs = found if isinstance(found, str) else np.concatenate([f[0] for f in found])
    if isinstance(ours, str):
        return Verdict("refused", ours, None, theirs)
    if isinstance(theirs, str):
        return Verdict("alone", theirs, ours, None)
    tail = theirs.shape[2:]
    alike = theirs.shape == ours.shape or (
        ours.shape[2:] == (1, 1) and theirs.shape[:2] == ours.shape[:2] and set(tail) <= {1}
    )
    if not alike:
        return Verdict("wrong", f"shape {ours.shape}, not {theirs.shape}", ours, theirs)
    gap = np.abs(ours - theirs.reshape(ours.shape).astype(np.int64))
    if not gap.any():
        return Verdict("equal", "", ours, theirs)
    if case.made == "float":
        real = np.concatenate([f[1] for f in found]).reshape(ours.shape).astype(np.float64)
        steps = real / case.out_scale
        half = np.abs(np.abs(steps - np.floor(steps)) - 0.5)
        if gap.max() == 1 and half[gap > 0].max() < NEAR:
            return Verdict("near", f"{int(gap.sum())} codes", ours, theirs)
    found = runtime.run(case.model(), reals, optimised=True)
    if not isinstance(found, str):
        usual = np.concatenate([f[0] for f in found]).reshape(ours.shape)
        if np.array_equal(ours, usual):
            return Verdict("default", "", ours, theirs)
    return Verdict("wrong", f"{int((gap > 0).sum())} of {gap.size} by {gap.max()}", ours, theirs)
