"""Pictures and labels: files in, uint8 arrays (N, 3, H, W), boxes and mAP out. No torch.

`coco` reads and scores data sets, `images` reads pictures, `scenes` draws a data set, `evaluate`
scores anything that turns images into maps.
"""
