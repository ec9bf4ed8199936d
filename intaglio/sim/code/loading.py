"""Object code to an address, by LLVM's own loader."""

from __future__ import annotations

import functools
from threading import Lock
from typing import Any

import llvmlite.binding as llvm

ENTRY = "kernel"  # the one name that an object defines for others

_LOCK = Lock()
_ENGINES: list[Any] = []  # own the machine code of every address given out


def load(code: bytes) -> int:
    """The address of an object's `kernel`; it stays for as long as the process."""
    with _LOCK:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _ENGINES.append(engine)
        address: int = engine.get_function_address(ENTRY)
    return address


@functools.cache
def start() -> None:
    """LLVM made ready for this processor, as its versions ask for."""
    if llvm.llvm_version_info < (20,):
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def machine() -> Any:
    """A target machine; code that is loaded is made already, so that its settings do not matter. An
    engine takes its own."""
    start()
    return llvm.Target.from_default_triple().create_target_machine(jit=True)
