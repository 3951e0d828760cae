"""The edge: answers for MTAs, from decisions held in memory. It needs neither Numba nor river, and fails open."""
