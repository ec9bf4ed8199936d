"""What each kind of head computes: a `HeadSpec` and raw maps in, scores, boxes and landmarks out.

`maps` holds maps against a spec and splits them into parts; `anchors`, `scores` and `coders` are
the formulas, `kinds` which of them a kind has. Where a formula takes a `library`, it is that of the
arrays: numpy, or torch where gradients are wanted. No torch is imported here.
"""
