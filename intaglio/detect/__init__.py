"""Detectors, boxes and data: what is quantised, and what says how good it is.

    boxes      raw maps in, boxes and losses out
    data       files in, images, labels and mAP out
    networks   names in, torch modules out

`train` trains the bundled detectors. Nothing is imported here: `data`, and `boxes` but for its
losses, work without torch.
"""
