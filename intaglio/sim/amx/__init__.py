"""Convolution of bytes by tiles of AMX: a map and packed weights in, codes out.

`permission` asks the kernel of the operating system for the tiles; `tiles` is the innermost loop,
`walk` what calls it block by block, and packs its weights.
"""
