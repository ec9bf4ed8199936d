"""The golden model as C: a Program in; out a folder of C99 with wrappers for SystemVerilog's DPI
and for VPI, and the model compiled and called from Python.

    arithmetic  `intaglio.fixed`, translated to C
    source      a Program as the tables of a C file
    folder      everything that a bench compiles
    compiled    the library, called through ctypes

`c/` holds the files that are the same for every Program: what the operations do, how it is called.
"""
