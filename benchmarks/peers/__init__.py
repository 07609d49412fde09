"""What is measured: `table` lists it, the other modules are the peers' own code. Those import little: it counts."""
