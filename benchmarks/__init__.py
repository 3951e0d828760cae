"""Benchmarks: one question a file. Each checks its answer, prints floors and losses, and runs small inside the tests."""
