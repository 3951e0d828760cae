"""The edge: answers mail servers from decisions in memory. It needs neither Numba nor river, and fails open."""
