"""The machine beneath: paths, texts, commands and parts of a work in; files that are whole or
absent, programs started in one environment and results in the order of the parts out.

Nothing here knows what the bytes mean.
"""
