"""Torch detectors: a name in, an `nn.Module` with its head's description out.

`resnet`, `fpn`, `norm` and `heads` are the parts of `fcos` and `retinanet`; `torchvision` has its
names and weights, `zoo` the bundled ones, and `resolve` is what a user calls MODEL.
"""
