"""From a build to a chip: a build's folder in, a netlist, a bitstream or a board's answers out.

`toolchain` runs the open tools; `synthesis` makes the netlist, `netlist` changes it; `bitstream`
places, routes, packs; `gates` simulates the netlist; `boards`, `pll`, `shell`, `host` and `line`
are boards'.
"""
