"""Torch detectors, their box decoding, COCO data and mAP.

Nothing is imported here: `decode`, `coco`, `evaluate` and `scenes` work without torch.
"""
