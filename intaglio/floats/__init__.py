"""Float networks in files: a .onnx or .pt2 file in, a torch module out, as `quantize` and `train`
read one.

`kinds` knows files by their first bytes, `opening` takes the reader that one needs. `onnx_network`
makes a module of an ONNX file (with the operators in `onnx_layers` and `onnx_maps`, and without the
integers that `dynamic` knows), `pt2` of an archive of torch.export. Both are a `network`: calls in
the order of the file, with its weights as parameters. Nothing of a file is unpickled or executed.
`compared` holds a module against onnxruntime, tensor by tensor.
"""
