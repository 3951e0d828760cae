"""Slow second opinions: each kernel's twin in plain Python, written from the formulas, sharing no code with what it judges."""
