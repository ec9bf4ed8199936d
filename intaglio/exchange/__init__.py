"""Programs to and from other tools' files: ONNX in three forms, and TOSA.

Only this package imports onnx. Import its modules by name; each needs the `exchange` extra.
"""
