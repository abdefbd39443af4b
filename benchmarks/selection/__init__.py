"""How fast `fishersft.select` is: one table against what there was before. `make bench-select` runs it."""
