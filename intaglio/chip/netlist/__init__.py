"""Netlists as the tools wrote them, changed. In come yosys' or nextpnr's JSON; out go the same
design with registers in its hard blocks, and a routed one as Verilog that has models."""
