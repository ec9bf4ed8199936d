"""What a loss trains: a quantised graph in, better codes, steps and tables out.

Without labels: `reconstruct`, by `blocks`, with `learner` and the variants of `augment`. With
labels, from a float checkpoint: `aqd`, its `norms` and learned roundings (`learned`,
`learned_weight`), and what `distil` adds to the loss.
"""
