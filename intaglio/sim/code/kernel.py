"""What is compiled: a function, and the kinds of its arguments in words, known without Numba."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import numpy as np


class Later:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def module(self) -> ModuleType:
        """The module itself."""
        return import_module(self.name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.module, attribute)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function that is compiled once its machine code is asked for, or into the kernels that call
    it; `inline`: written into them before."""

    function: FunctionType
    inline: bool = False

    def __call__(self, *arguments: Any) -> Any:
        """What it is to the kernels that call it."""
        raise TypeError(f"{self.function.__qualname__} must be called by kernels, not by Python.")


@dataclass(frozen=True, eq=False)
class Written:
    """A function that writes LLVM instructions; Numba makes an intrinsic of it."""

    function: FunctionType


@dataclass(frozen=True)
class Code:
    """Machine code of a kernel for arguments of these `kinds`; `types` makes Numba's of them."""

    kernel: Kernel
    kinds: str
    types: Callable[[], tuple[Any, ...]] = field(compare=False, repr=False)


def kind(value: Any) -> str:
    """All that Numba distinguishes in an argument: an array's type and layout, a tuple's parts. A
    named tuple's class counts by its name."""
    if isinstance(value, np.ndarray):
        flags = value.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        access = "" if flags.writeable else ", read only"
        odd = "" if flags.aligned else ", not aligned"
        return f"{value.dtype.str}[{value.ndim}{layout}{access}{odd}]"
    if isinstance(value, tuple):
        of = type(value)
        name = "" if of is tuple else f"{of.__module__}.{of.__qualname__}"
        return f"{name}({', '.join(map(kind, value))})"
    if isinstance(value, int) and not isinstance(value, bool):
        return "int64"
    return f"{type(value).__module__}.{type(value).__qualname__}"
