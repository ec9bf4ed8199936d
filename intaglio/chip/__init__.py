"""From a build to a chip: synthesis, place and route, boards, and the netlist simulated."""
