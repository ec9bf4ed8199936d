"""Torch detectors: a head's description in, an `nn.Module` with raw maps out.

`spec` is that description; `resnet`, `fpn`, `norm` and `heads` are the parts of `fcos` and
`retinanet`; `torchvision` has its names, and the weights trained there.
"""
