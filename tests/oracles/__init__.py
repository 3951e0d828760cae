"""Naive twins of the kernels in plain Python, written from the formulas. They share no code with the kernels."""
