"""Two label maps -> figures: pure functions of arrays."""
