"""Object code of a kernel, by Numba and LLVM.

Numba optimises and compiles each function that a kernel calls for itself, then again inside every
caller, with two wrappers for Python. Here it only types functions and writes them in LLVM's
language; a kernel is linked with all that it calls, and optimised once.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from intaglio.sim.code.kernel import Code, Kernel, Later, Written
from intaglio.sim.code.loading import ENTRY

# Arrays are not counted: whoever calls keeps them. Division is as in C: no kernel divides by 0.
OPTIONS: dict[str, Any] = {
    "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy",
}  # fmt: skip
RESHAPE = "numba_attempt_nocopy_reshape"  # what Numba's `reshape` calls

njit: Any = numba.njit  # its types do not know all that it takes

_MADE: dict[int, tuple[Any, Any]] = {}  # what Numba has for a Kernel, a Written, a module


class Library(CPUCodeLibrary):
    """LLVM's text of a function and all that it calls, not optimised and without an address."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_specific(self) -> None:
        pass

    def get_pointer_to_function(self, name: str) -> int:
        return 0


class Codegen(JITCPUCodegen):
    """Of such libraries, for the processor that Numba compiles for."""

    _library_class = Library  # type: ignore[assignment]  # a sister of Numba's

    def _add_module(self, module: Any) -> None:
        pass

    def set_env(self, name: str, environment: Any) -> None:
        pass

    def object_of(self, module: Any) -> bytes:
        """Optimised as Numba does, and compiled."""
        cheap = {"loop_vectorize": False, "slp_vectorize": False, "opt": 0, "cost": "cheap"}
        for passes in (self._module_pass_manager(**cheap), self._module_pass_manager()):
            manager, *builder = passes if isinstance(passes, tuple) else (passes,)  # Numba < 0.62
            manager.run(module, *builder)
        code: bytes = self._tm.emit_object(module)
        return code


@functools.cache
def codegen() -> Codegen:
    """The only one, with all that Numba knows registered."""
    cpu_target.target_context.refresh()
    return Codegen("intaglio")


@contextmanager
def gathering() -> Iterator[None]:
    """Inside, Numba's functions become such libraries; no other thread compiles meanwhile. Garbage
    is not looked for: Numba makes hardly any, but so many objects that looking takes a sixth."""
    context, mine, collecting = cpu_target.target_context, codegen(), gc.isenabled()
    with global_compiler_lock:
        before, context._internal_codegen = context._internal_codegen, mine
        gc.disable()
        try:
            yield
        finally:
            context._internal_codegen = before
            if collecting:
                gc.enable()


def emit(code: Code) -> bytes:
    """An object whose one name for others is ENTRY."""
    with gathering():
        dispatcher = made(code.kernel)
        signature = code.types()
        dispatcher.compile(signature)
        compiled = dispatcher.overloads[signature]
        library = codegen().create_library(ENTRY)
        library.add_ir_module(entry(library, compiled.fndesc))
        whole = library._final_module
        whole.link_in(compiled.library._get_module_for_linking(), preserve=True)
        hide(whole)
        return codegen().object_of(whole)


def entry(library: Any, about: Any) -> Any:
    """The function ENTRY, by the C convention, with the arguments of what `about` describes, and
    its result or 0; an error ends the process."""
    context = cpu_target.target_context
    module = library.create_ir_module(ENTRY)
    convention = context.call_conv
    native = convention.get_function_type(about.restype, about.argtypes)
    callee = ir.Function(module, native, about.llvm_func_name)
    long = ir.IntType(64)
    taken = [context.get_value_type(one) for one in about.argtypes]
    made = ir.Function(module, ir.FunctionType(long, taken), ENTRY)
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    status, out = convention.call_function(
        builder, callee, about.restype, about.argtypes, made.args
    )
    with cgutils.if_unlikely(builder, status.is_error):
        builder.call(
            module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), ())), ()
        )
    builder.ret(long(0) if about.restype == types.none else out)
    write_reshape(module)
    return module


def write_reshape(module: Any) -> None:
    """Numba's RESHAPE for arrays whose values lie side by side, which are all that kernels reshape:
    fills the new strides and gives 1, or gives 0 for others. Without it code would need Numba."""
    long, number = ir.IntType(64), ir.IntType(32)
    pointer = long.as_pointer()
    taken = (long, pointer, pointer, long, pointer, pointer, long, number)
    made = ir.Function(module, ir.FunctionType(number, taken), RESHAPE)
    count, sizes, strides, new_count, new_sizes, new_strides, item, _ = made.args
    builder = ir.IRBuilder(made.append_basic_block("entry"))

    def place(array: Any, index: Any, last: Any) -> Any:
        """Of entry `last` - 1 - `index`."""
        return builder.gep(array, [builder.sub(builder.sub(last, long(1)), index)])

    step = cgutils.alloca_once_value(builder, item)
    with cgutils.for_range(builder, count) as loop:
        size = builder.load(place(sizes, loop.index, count))
        same = builder.icmp_signed(
            "==", builder.load(place(strides, loop.index, count)), builder.load(step)
        )
        apart = builder.not_(builder.or_(same, builder.icmp_signed("==", size, long(1))))
        with builder.if_then(apart, likely=False):
            builder.ret(number(0))
        builder.store(builder.mul(builder.load(step), size), step)
    builder.store(item, step)
    with cgutils.for_range(builder, new_count) as loop:
        builder.store(builder.load(step), place(new_strides, loop.index, new_count))
        size = builder.load(place(new_sizes, loop.index, new_count))
        builder.store(builder.mul(builder.load(step), size), step)
    builder.ret(number(1))


def hide(module: Any) -> None:
    """Leave ENTRY alone for others to see, and nothing that it does not need."""
    for one in (*module.functions, *module.global_variables):
        if not one.is_declaration and one.name != ENTRY:
            one.linkage = "internal"
    if hasattr(llvm, "create_new_module_pass_manager"):  # else it goes a little later
        passes = llvm.create_new_module_pass_manager()
        passes.add_global_dead_code_eliminate_pass()
        passes.run(module, codegen()._pass_builder())


def made(value: Any) -> Any:
    """What a kernel's function means by a name, as Numba knows it."""
    if isinstance(value, Later):
        return value.module
    ours = isinstance(value, ModuleType) and value.__name__.startswith("intaglio.")
    if not (ours or isinstance(value, Kernel | Written)):
        return value
    if id(value) not in _MADE:
        if isinstance(value, ModuleType):
            module = ModuleType(value.__name__)
            _MADE[id(value)] = (value, module)
            vars(module).update({k: made(v) for k, v in vars(value).items() if k[:2] != "__"})
        elif isinstance(value, Written):
            _MADE[id(value)] = (value, intrinsic(value.function))
        else:
            names: dict[str, Any] = {}
            dispatcher = njit(**options(value))(renamed(value.function, names))
            _MADE[id(value)] = (value, dispatcher)
            fill(names, value.function)
    return _MADE[id(value)][1]


def options(kernel: Kernel) -> dict[str, Any]:
    """Of `njit`."""
    return OPTIONS | ({"inline": "always"} if kernel.inline else {})


def renamed(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    """The same function, whose global names are `names`."""
    cells = tuple(cell(made(one.cell_contents)) for one in function.__closure__ or ())
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, cells or None
    )
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


def cell(value: Any) -> Any:
    """A closure's place for a value."""
    found = (lambda: value).__closure__
    assert found is not None
    return found[0]


def fill(names: dict[str, Any], function: FunctionType) -> None:
    """The global names that the function uses."""
    known = function.__globals__
    names["__builtins__"] = known["__builtins__"]
    names["__name__"] = function.__module__
    names.update({name: made(known[name]) for name in used(function.__code__) if name in known})


def used(code: CodeType) -> set[str]:
    """Names in a function and those inside it."""
    inner = [used(one) for one in code.co_consts if isinstance(one, CodeType)]
    return set(code.co_names).union(*inner)


@functools.cache
def callable_of(kernel: Kernel) -> Any:
    """A kernel as a function of Python that Numba compiles as usual, without the lock."""
    names: dict[str, Any] = {}
    function = renamed(kernel.function, names)
    fill(names, kernel.function)
    return njit(nogil=True, _nrt=False)(function)
