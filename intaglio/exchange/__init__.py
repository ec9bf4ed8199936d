"""Programs to and from other tools' files.

    importer    a quantised file in, a Program out, made of
      from_onnx   what ONNX and QONNX files hold, and what is known of their tensors
    to_onnx     a Program in, ONNX out, in three forms
    to_tosa     a Program in, TOSA out

`checked` compares an import with the program that runs the file, in a process of its own
(`runtime_worker`). `runtime` runs ONNX, `compared` counts where another program's integers differ.
Only this package imports onnx. Import its modules by name; each needs the `exchange` extra.
"""
