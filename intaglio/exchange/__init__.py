"""Programs to and from other tools' files.

    from_onnx   quantised ONNX and QONNX in, a Program out
    to_onnx     a Program in, ONNX out, in three forms
    to_tosa     a Program in, TOSA out

`runtime` runs ONNX, `compared` counts where another program's integers differ. Only this package
imports onnx. Import its modules by name; each needs the `exchange` extra.
"""
