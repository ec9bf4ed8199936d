"""Frames that find faults of hardware: a Program in, points that a bench should meet and frames
that meet them out.

A point is an event inside the Program that a fault could need to show: a sum just above a code's
first, an operand at its least, a pad beside a pixel that differs from it.

    points    the points of a Program, and which of them tensors meet
    rounding  those of what rounds: steps between codes, clamps
    operands  those of what reads: extremes, ends of sums, borders, entries of tables
    coverage  how much of a Program frames meet, for people and files
    tracing   every tensor of a run
    frames    pictures of many kinds
    slopes    back through a Program, in floats: where to an image would have to change
    climb     pictures made along the slopes for points that nothing has met
    choose    the few frames that are kept
"""
