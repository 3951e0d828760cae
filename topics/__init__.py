"""The wire: topics, keys, networks, events, decisions, overrides and changelog rows. Pure: no I/O, no clock."""
