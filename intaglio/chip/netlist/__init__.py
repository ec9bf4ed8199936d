"""Netlists as the tools wrote them, changed: yosys' or nextpnr's JSON comes in; out go the same
design with registers in its hard blocks, and a routed one as Verilog that has models."""
