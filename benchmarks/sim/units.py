"""Which vector unit a running program's inner loops use, read from the program itself.

Runtimes choose their kernels when they start, and most do not say which. So the process is stopped
some hundred times while it works, and the multiplying instruction that comes next is looked up: the
unit is the one that most stops are near. Linux on x86-64 (ptrace).
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import Counter
from pathlib import Path

import capstone

SEIZE, INTERRUPT, CONT, PEEKUSER, DETACH = 0x4206, 0x4207, 7, 3, 17
RIP = 16 * 8  # place of the instruction's address among a thread's registers
AHEAD = 256  # bytes that are read from there; an inner loop's next multiplication is nearer
FEW = 8  # stops; where fewer are near a multiplication, what was seen is no unit

INT8, FLOAT = "int8", "fp32"

# What holds a program to an instruction set before it starts: Numba's compilation target, a
# processor's name with it, because LLVM adds what that one has and would join AVX2's two
# instructions into one of VNNI; and oneDNN's own variable. onnxruntime and XNNPACK have no switch.
HELD = {
    "avx512vnni": {
        "NUMBA_CPU_NAME": "cascadelake",
        "NUMBA_CPU_FEATURES": "+avx512vnni,+avx512bw,+avx512vl,+avx512dq,+avx512f,+avx2,+fma",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
    },
    "avx2": {
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}


def unit_of(instruction: str, operands: str) -> tuple[str, str] | None:
    """(type of the factors, unit) of a multiplying instruction; None for any other.

    Sums of `vpmaddubsw` are of 16 bits and saturate; the other units' are of 32.
    """
    size = "zmm" if "zmm" in operands else "ymm" if "ymm" in operands else "xmm"
    if instruction.startswith(("tdpb", "tdpf")):
        return (
            INT8 if instruction.startswith("tdpb") and "bf" not in instruction else FLOAT
        ), "amx"
    if instruction.startswith(("vpdpbusd", "vpdpwssd", "vpdpbssd")):
        return INT8, "avx512vnni" if size == "zmm" else "avxvnni"
    if instruction in ("vpmaddubsw", "vpmaddwd"):
        return INT8, "avx512" if size == "zmm" else "avx2"
    if instruction.startswith("vfmadd") and instruction.endswith("ps"):
        return FLOAT, "avx512" if size == "zmm" else "avx2"
    return None


class Tracer:
    """Looks at one thread of a child process."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.restype = ctypes.c_long
        self.libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        self.disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.ask(SEIZE)

    def ask(self, request: int, address: int = 0, data: int = 0) -> int:
        ctypes.set_errno(0)
        answer: int = self.libc.ptrace(request, self.thread, address, data)
        if answer == -1 and ctypes.get_errno():
            raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())}, ptrace")
        return answer

    def look(self) -> tuple[str, str] | None:
        """The next multiplication from where the thread is now."""
        self.ask(INTERRUPT)
        while True:
            _, status = os.waitpid(self.thread, 0x40000000)  # __WALL: a thread too
            if not os.WIFSTOPPED(status):
                raise ChildProcessError("the program ended while it was looked at")
            if status >> 16:  # stopped by INTERRUPT, and not by a signal of its own
                break
            self.ask(CONT, data=os.WSTOPSIG(status))
        place = self.ask(PEEKUSER, RIP) & (1 << 64) - 1
        with Path(f"/proc/{self.thread}/mem").open("rb", buffering=0) as memory:
            memory.seek(place)
            code = memory.read(AHEAD)
        self.ask(CONT)
        for _, _, instruction, operands in self.disassembler.disasm_lite(code, place):
            if (found := unit_of(instruction, operands)) is not None:
                return found
        return None

    def done(self) -> None:
        """Let the thread go on by itself."""
        self.ask(INTERRUPT)
        os.waitpid(self.thread, 0x40000000)
        self.ask(DETACH)


def seen(pid: int, kind: str, stops: int = 300, every: float = 0.005) -> str:
    """The unit of `kind` (INT8 or FLOAT) that most of the main thread's stops are near; "none"
    where hardly any is."""
    tracer = Tracer(pid)
    counts: Counter[str] = Counter()
    for _ in range(stops):
        time.sleep(every)
        found = tracer.look()
        if found is not None and found[0] == kind:
            counts[found[1]] += 1
    tracer.done()
    ((unit, count),) = counts.most_common(1) or (("none", 0),)
    return unit if count >= FEW else "none"
