"""Amaranth blocks of the streaming datapath. They know numbers, never a `Program`.

Every stream is `amaranth.lib.stream` with a flat payload: `lanes` channels of `bits` each, lane 0
in the low bits, two's complement when signed. Pixels come in raster order with the channels
innermost, ceil(C / lanes) beats a pixel; the unused lanes of a pixel's last beat are don't-care.
`valid` never waits for `ready`, and a payload holds until it is taken. There is no first or last
marker: every block counts its beats.

Beside every block is a `model` in plain Python with which its tests compare it.
"""
