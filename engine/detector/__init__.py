"""Per-key state and its mathematics: pure, compiled, no I/O, no clock."""
