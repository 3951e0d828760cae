"""The faults around a worker, each a function with a name and one sentence, and the conditions that must hold afterwards.

`tests/system/test_faults.py` runs a short form of some; `make faults` (`benchmarks/faults/bench.py`) runs all in full.
"""
