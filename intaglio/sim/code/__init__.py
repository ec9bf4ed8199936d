"""Machine code of kernels: a kernel and the kinds of its arguments in, an address out.

`target` is the processor it is for, `store` where it is kept, `loading` what makes kept code
callable, and needs LLVM alone. `emitting` makes it with Numba, `sharing` in several processes; both
are imported only where code is missing, for Numba takes longer to import than most images to run.
"""
