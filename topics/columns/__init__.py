"""Compiled columns: record batches and events as arrays, one kernel call per block, no Python object per event."""
