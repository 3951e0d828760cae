"""Compiled columns: record batches and events as arrays, one kernel call a block, no Python object an event."""
