"""The wire: topics, keys, events, decisions, changelog rows; record batches as columns. Pure: no I/O, no clock."""
