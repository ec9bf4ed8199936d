"""Detectors, boxes and data: what is quantised, and what says how good it is.

`resolve` and `zoo` make a torch module of a name, with the parts in the room `networks`. `images`,
`coco` and `scenes` take files in and give uint8 arrays (N, 3, H, W) and labels out; `decode`, raw
maps in and boxes out, `draw` their pictures, `losses` what training minimises; `evaluate` scores
anything that turns images into maps; `train` trains the bundled detectors.

Nothing is imported here: `decode`, `draw`, `coco`, `images`, `evaluate` and `scenes` work without
torch.
"""
