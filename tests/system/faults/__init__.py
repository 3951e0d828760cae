"""What can break around a worker, each as a function with a name and one sentence, and what must hold afterwards.

`tests/system/test_faults.py` runs a short form of some; `make faults` (`benchmarks/faults/bench.py`) runs all of them at length.
"""
