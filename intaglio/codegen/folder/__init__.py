"""What lies in a build's folder: ports, schedule and target in, the text of every file out.

`manifest` is the folder itself and how one is recognised, `bench` its bench, `verilated` what
compiles it, `scripts` its constraints and tool scripts.
"""
