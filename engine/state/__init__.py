"""A partition of the engine: its state in memory, and its state as changelog records. Pure: no I/O, no clock."""
